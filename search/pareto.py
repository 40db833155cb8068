"""Non-dominated fronts and hypervolume (Zitzler and Thiele, 1999) of a study's objectives.

Objectives are turned into losses to minimise. The hypervolume's reference point is fixed once, from the
first ten scored candidates: their worst value of each objective. A share of the box between the ideal
point (accuracy 1, everything else 0) and that point is shown, so it lies in [0, 1] and only grows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

REFERENCE_COUNT = 10


def losses(values: Sequence[float], directions: Sequence[str]) -> tuple[float, ...]:
    """Values to minimise: v, or 1 - v where v is maximised (accuracies)."""
    return tuple(1 - v if d == "maximize" else v for v, d in zip(values, directions))


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether losses a are nowhere worse than b and somewhere better."""
    return all(x <= y for x, y in zip(a, b)) and any(x < y for x, y in zip(a, b))


@dataclass
class Front:
    """The non-dominated of all losses added so far, by key."""

    members: dict[str, tuple[float, ...]] = field(default_factory=dict)
    reference: tuple[float, ...] | None = None
    _seen: list[tuple[float, ...]] = field(default_factory=list)

    def add(self, key: str, loss: tuple[float, ...]) -> bool:
        """Adds one candidate's losses; whether it is now a member."""
        self._note(loss)
        if any(dominates(other, loss) for other in self.members.values()):
            return False
        self.members = {k: v for k, v in self.members.items() if not dominates(loss, v)}
        self.members[key] = loss
        return True

    def hypervolume(self) -> float | None:
        """The share of the box that the front dominates; None before the reference point is fixed."""
        if self.reference is None:
            return None
        import moocore

        scaled = np.array(list(self.members.values())) / np.array(self.reference)
        return float(moocore.hypervolume(scaled, ref=np.ones(len(self.reference))))

    def _note(self, loss: tuple[float, ...]) -> None:
        if self.reference is None:
            self._seen.append(loss)
            if len(self._seen) >= REFERENCE_COUNT:
                self.reference = tuple(max(max(column), 1e-12) for column in zip(*self._seen))
