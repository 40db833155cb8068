"""Other runtimes on the same network, to compare times with: one file adds one.

A file has `runner(network, onnx, image, threads)`: `network` is the torch module, `onnx` the path of its ONNX
file, `image` an array [N, C, H, W]. It gives a function without arguments that runs the network on the image and
returns the outputs. `MODULE` is what must be importable.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from pathlib import Path

import numpy as np


class PeerError(ValueError):
    """A runtime that is unknown or not installed: names it and what to do."""


def names() -> list[str]:
    """Every runtime, sorted, without importing any."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def check(wanted: list[str]) -> None:
    """PeerError unless all are known and installed."""
    for name in wanted:
        if name not in names():
            raise PeerError(f"unknown runtime {name!r}; known: {', '.join(names())}")
        module = importlib.import_module(f"evaluators.peers.{name}").MODULE
        if importlib.util.find_spec(module) is None:
            raise PeerError(f"--vs {name}: {module} is not installed; pip install -e '.[bench]'")


def runner(name: str, network, onnx: Path, image: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """The function that runs the network in that runtime."""
    return importlib.import_module(f"evaluators.peers.{name}").runner(network, onnx, image, threads)
