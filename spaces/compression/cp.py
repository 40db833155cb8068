"""Canonical polyadic decomposition of convolutions (Lebedev et al., 2015 [59]): W[n, c, y, x] ~ sum_r A[n, r] B[c, r] Y[y, r] X[x, r]
becomes a 1x1 convolution from C maps to R, a d x 1 and a 1 x d depthwise one, and a 1x1 to N: R (C + 2 d + N) weights in place of d^2 C N,
and as many multiplications a place.

All factors are found together by nonlinear least squares, or in turns by alternating ones (`spaces.canonical`). The layer stays dense
where the four would not be smaller. Terms of huge norms that cancel could not be trained on; they are refused.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV
from spaces.gene import SpaceError, check_choice, check_range
from spaces.method import FACTORISE, Compression

MORE = 1.25  # terms that are tried next, where an error was not reached


@dataclass(frozen=True)
class CP(Compression):
    """Four layers of `rank` maps, two of them depthwise, in place of one.

    With `error` in place of a rank, the least one, to a quarter of it, at which the weights differ by that share of their norm.
    """

    SOURCE: ClassVar[str] = "Lebedev et al., 2015 [59]"
    PHASE: ClassVar[int] = FACTORISE
    APPLIES: ClassVar[tuple[str, ...]] = (CONV,)
    GAIN: ClassVar[str] = "bytes and time: two 1x1 convolutions, and two depthwise ones along one axis"
    SETTINGS: ClassVar[tuple[str, ...]] = ("cp-rank64", "cp-rank16")
    rank: int = 0
    error: float = 0.0
    solver: str = "nls"

    def __post_init__(self):
        if (self.rank > 0) == (self.error > 0):
            raise SpaceError(f"{self}: give either a rank (cp-rank16) or an error (cp-error0.2)")
        check_range("cp rank", self.rank, 0, 1 << 12)
        check_range("cp error", self.error, 0, 1)
        check_choice("cp solver", self.solver, ("nls", "als"))

    @property
    def shapes_fixed(self) -> bool:
        """Whether so many terms can be had, or are degenerate, only the trained weights say."""
        return False

    def prepare(self, layer):
        from spaces.canonical import decomposed, least_terms
        from spaces.factors import whole_weight

        weight = whole_weight(layer, self).numpy()
        terms = self.rank or max(1, least_terms(weight, self.error))
        while terms * sum(weight.shape) < weight.size:
            factors, error = decomposed(weight, terms, self.solver)
            if self.rank or error <= self.error:
                return in_four(layer, *factors)
            terms = int(MORE * terms) + 1
        return layer


def in_four(layer, outputs, inputs, rows, columns):
    """The layer as four, of factors [N, R], [C, R], [height, R] and [width, R]; as it was where they would not be smaller."""
    import torch

    from spaces.factors import HEIGHT, WIDTH, Factor, in_a_row

    a, b, y, x = (torch.from_numpy(factor) for factor in (outputs, inputs, rows, columns))
    return in_a_row(layer, Factor(b.T[..., None, None]), Factor(y.T[:, None, :, None], (HEIGHT,), groups=len(y.T)),
                    Factor(x.T[:, None, None, :], (WIDTH,), groups=len(x.T)), Factor(a[..., None, None]))
