"""Vertical and horizontal factors in closed form (Tai et al., 2016 [64], theorem 1): a d x d convolution of C maps to N becomes a d x 1
one to K maps and a 1 x d one behind it, the nearest that K allows (`spaces.vertical_horizontal`). d^2 C N weights become d K (C + N), and
the multiplications as many fewer, so the layer stays dense from K = d C N / (C + N) on.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV
from spaces.gene import check_range
from spaces.method import FACTORISE, Compression


@dataclass(frozen=True)
class VerticalHorizontal(Compression):
    """Two rectangular convolutions in place of one; `keep` is the share of its weights that they have, at most."""

    SOURCE: ClassVar[str] = "Tai et al., 2016 [64]"
    PHASE: ClassVar[int] = FACTORISE
    APPLIES: ClassVar[tuple[str, ...]] = (CONV,)
    GAIN: ClassVar[str] = "bytes and time: two smaller dense convolutions"
    SETTINGS: ClassVar[tuple[str, ...]] = ("vh_lowrank-keep0.7", "vh_lowrank", "vh_lowrank-keep0.25", "vh_lowrank-keep0.1")
    keep: float = 0.5

    def __post_init__(self):
        check_range("vh_lowrank keep", self.keep, 0.001, 1)

    def prepare(self, layer):
        from spaces.factors import whole_weight
        from spaces.vertical_horizontal import as_pair, maps_for, nearest

        weight = whole_weight(layer, self)
        return as_pair(layer, *nearest(weight, maps_for(weight, self.keep)))
