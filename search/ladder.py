"""Which candidates of a rung go on to the next one: successive halving without waiting (ASHA: Li et al., 2020), for several objectives.

A candidate goes on at once if it is in the best third of all that were scored at its rung so far, or in the best share that gives the
next rung no more time than this one where that is less (successive halving spends the same on each rung: Jamieson and Talwalkar, 2016):
by non-dominated rank (Deb et al., 2002) and, within a rank, by its distance from the nearest other, so that those that go on are spread
along the front.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

SHARE = 1 / 3


@dataclass
class Ladder:
    """The losses of all candidates scored at each rung, in the order in which they came."""

    _losses: dict[int, list[tuple[float, ...]]] = field(default_factory=dict)

    def enter(self, rung: int, loss: tuple[float, ...], share: float = SHARE) -> bool:
        """Adds a candidate's losses at a rung; whether it is among the best `share` and goes on to the next."""
        losses = self._losses.setdefault(rung, [])
        losses.append(loss)
        return _place(np.array(losses)) < max(1, math.floor(share * len(losses)))


def share_of(costs: Mapping[int, Sequence[float]], rung: int) -> float:
    """The share of a rung's candidates that goes on. costs: seconds of the jobs so far, by rung."""
    here, above = costs.get(rung), costs.get(rung + 1)
    return min(SHARE, fmean(here) / max(fmean(above), 1e-9)) if here and above else SHARE


def _place(losses: np.ndarray) -> int:
    """How many of the losses [N, objectives] come before the last."""
    import moocore

    ranks = moocore.pareto_rank(losses)
    equals = losses[ranks == ranks[-1]]
    nearest = _nearest(equals / np.maximum(np.ptp(losses, axis=0), 1e-12))
    return int((ranks < ranks[-1]).sum() + (nearest > nearest[-1]).sum())


def _nearest(points: np.ndarray) -> np.ndarray:
    """The distance of each point [N, objectives] from the nearest other; infinite where there is none."""
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(distances, np.inf)
    return distances.min(1)
