"""Deployed operations: one file adds one torch custom op `netwright::<file name>`.

Each file holds the op's reference arithmetic, written in aten so that plain torch can run its
expansion, and the shape of its result. Importing the file registers the op; ops have no autograd.
"""

import importlib
import pkgutil
from collections.abc import Callable


def names() -> list[str]:
    """Every deployed op, sorted, without importing any."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def register_all() -> None:
    """Imports every op's file, which defines it in torch; needed before a saved network is loaded."""
    for name in names():
        importlib.import_module(f"spaces.ops.{name}")


def references() -> dict[object, Callable]:
    """Reference arithmetic by torch operator: a decomposition table from deployed ops to aten."""
    import torch

    register_all()
    modules = {name: importlib.import_module(f"spaces.ops.{name}") for name in names()}
    return {getattr(torch.ops.netwright, name).default: module.reference for name, module in modules.items()}
