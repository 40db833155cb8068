"""Where images come from: one file adds one kind of source, with `read(path)`, or `windows(path, context)` if its images are windows of
sequences: the frame in the middle and `context` frames on either side."""

import importlib
import pkgutil
from types import ModuleType

from evaluators.training.raw import DataError


def load(name: str) -> ModuleType:
    """The source's module. DataError names the known ones."""
    known = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if name not in known:
        raise DataError(f"data.source is {name!r}; known: {', '.join(known)}")
    return importlib.import_module(f"{__name__}.{name}")


def of_sequences(source: ModuleType) -> bool:
    """Whether its images are windows of sequences."""
    return hasattr(source, "windows")
