"""Published networks as plain torch modules: what compiled code is measured on, and a start for searches.

One file adds one network: `network(size, classes)` for images of `size` x `size`. At 32x32 the stem has
stride 1, as is usual for small images.
"""

import importlib
import pkgutil


def names() -> list[str]:
    """Every network, sorted, without importing any."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def network(name: str, size: int, classes: int):
    """The network of that name with random weights, for images [N, 3, size, size]; logits [N, classes]."""
    return importlib.import_module(f"spaces.zoo.{name}").network(size, classes)
