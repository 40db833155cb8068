"""The samplers of `search/samplers`, by name."""

import importlib
import pkgutil
from pathlib import Path


def names() -> list[str]:
    """The known samplers."""
    return sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent / "samplers")]))


def make(name: str, seed: int):
    """The Optuna sampler `name`. Constraints are what the trials report by `set_constraint`."""
    return importlib.import_module(f"search.samplers.{name}").make(seed)
