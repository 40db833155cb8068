"""The project's own benchmarks: one file adds one `netwright bench NAME`.

A file has `run(target) -> dict`, plain values for JSON, and `show(result)`, which prints them.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Characters of a line where the output goes to a file or another program.
WIDTH = 200


def names() -> list[str]:
    """Every benchmark, sorted, without importing any."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str):
    """The benchmark's module."""
    return importlib.import_module(f"search.bench.{name}")


def console() -> "Console":
    """Where `show` prints: as wide as the terminal, or WIDTH."""
    from rich.console import Console

    made = Console()
    return made if made.is_terminal else Console(width=WIDTH)
