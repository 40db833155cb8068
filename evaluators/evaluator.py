"""Evaluators: what a candidate is worth, one file each, found by walking this folder.

An evaluator is a class with `METRIC` (its key, with the unit in the name), `DIRECTION` and `STAGE`:
the cheap ones (COUNTED) are computed before a candidate is trained, and again on the trained network.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from evaluators.subject import Subject

COUNTED, TRAINED, MEASURED = range(3)


class Evaluator(Protocol):
    """One metric of a candidate. The first docstring line is shown to users."""

    METRIC: str
    UNIT: str
    DIRECTION: str
    STAGE: int

    def evaluate(self, subject: "Subject") -> dict[str, float]:
        """The metric by its key, and further figures that come with it."""
        ...


@dataclass(frozen=True)
class Metric:
    """A metric that studies may name: `direction` is "maximize" or "minimize"."""

    name: str
    unit: str
    direction: str
    doc: str


@cache
def evaluators() -> tuple[type[Evaluator], ...]:
    """Every evaluator of this folder, cheap ones first, then by name."""
    found = pkgutil.iter_modules([str(Path(__file__).parent)])
    modules = [importlib.import_module(f"evaluators.{module.name}") for module in found if not module.ispkg]
    classes = [value for module in modules for value in vars(module).values()
               if isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "METRIC")]
    return tuple(sorted(classes, key=lambda evaluator: (evaluator.STAGE, evaluator.METRIC)))


def metrics() -> dict[str, Metric]:
    """The metrics by name."""
    return {e.METRIC: Metric(e.METRIC, e.UNIT, e.DIRECTION, e.__doc__.splitlines()[0]) for e in evaluators()}
