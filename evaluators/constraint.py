"""Constraints of a study: `latency_ms <= 2.0`, `accuracy >= 0.9`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

_FORM = re.compile(r"\s*([a-z_]\w*)\s*(<=|>=)\s*([-+]?[\d_.]+(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric, from above ("<=") or below (">=")."""

    metric: str
    relation: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """ValueError shows the form where the text has another."""
        match = _FORM.fullmatch(text)
        try:
            return cls(match.group(1), match.group(2), float(match.group(3)))
        except (AttributeError, ValueError):
            raise ValueError(f"{text!r} is no constraint; write it as 'latency_ms <= 2.0'") from None

    def __str__(self) -> str:
        return f"{self.metric} {self.relation} {self.limit:g}"

    def violation(self, metrics: Mapping[str, float]) -> float:
        """How far the metric is past the limit, relative to it: at most 0 where the constraint holds."""
        excess = metrics[self.metric] - self.limit
        return (excess if self.relation == "<=" else -excess) / max(abs(self.limit), 1e-12)
