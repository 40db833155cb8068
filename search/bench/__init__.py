"""The project's own benchmarks: one file adds one `netwright bench NAME`.

A file has `run(target) -> dict`, plain values for JSON, and `show(result)`, which prints them.
"""

import importlib
import pkgutil


def names() -> list[str]:
    """Every benchmark, sorted, without importing any."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str):
    """The benchmark's module."""
    return importlib.import_module(f"search.bench.{name}")
