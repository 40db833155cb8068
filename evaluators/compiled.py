"""What runs in the worker process: compiling, verifying and measuring a candidate's saved network.

Compiled kernels may crash or hang, so these functions are called through `backends.worker.Worker`. They
take paths and plain values, give plain values, and meet a candidate only in its folder: model.pt2,
weights.safetensors (and weights.nw), model.so.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np


def load_program(folder: Path):
    """The exported program of a candidate's folder; its ops are registered first."""
    import torch

    import spaces.ops

    spaces.ops.register_all()
    return torch.export.load(folder / "model.pt2")


def open_library(folder: Path, parameters: list[str]):
    """The candidate's compiled code with its stored weights."""
    from backends.library import Library
    from spaces.weights import read

    return Library(folder / "model.so", parameters, read(folder))


def compile_and_measure(folder: Path, target_name: str, images: np.ndarray) -> dict[str, Any]:
    """Compiles model.pt2 to model.so, compares it with its reference on `images` [N, C, H, W], and times it.

    The content of timing.json. RuntimeError if outputs differ.
    """
    from backends.compile import compile_program
    from backends.target import load
    from backends.verify import verify

    program, target = load_program(folder), load(target_name)
    report = compile_program(program, target, folder / "model.so")
    checked = verify(program, open_library(folder, report.parameters), images, target, report.joined)
    if checked.mismatch:
        raise RuntimeError(checked.mismatch)
    return {**measure_again(folder, target_name, report.parameters, images[:1]),
            "verification": asdict(checked), "compiled": asdict(report)}


def measure_again(folder: Path, target_name: str, parameters: list[str], image: np.ndarray) -> dict[str, Any]:
    """Times model.so anew: samples, their median and its interval, in milliseconds."""
    from backends.cores import apart
    from backends.measure import measure
    from backends.target import load

    target = load(target_name)
    with apart(target.threads):
        measurement = measure(open_library(folder, parameters), image, target.measure)
    return {"target": target_name, "latency_ms": measurement.latency_ms, "interval_ms": measurement.interval_ms,
            "samples_ms": measurement.samples_ms, "runs_a_sample": measurement.runs, "drift": measurement.drift}


def logits(folder: Path, parameters: list[str], images: np.ndarray) -> np.ndarray:
    """What the compiled network gives of each image [N, C, H, W]; [N, classes]."""
    library = open_library(folder, parameters)
    return np.concatenate([library.run(image[None]) for image in images])
