"""Low-rank expansions (Jaderberg et al., 2014 [57], scheme 2): a d x d convolution of C maps to N becomes a d x 1 one to K maps and a
1 x d one behind it, all maps mixed in both: d K (C + N) weights, and as many multiplications a place.

They minimise the error of the weights (`filter`: the closed form of `vh_lowrank`), or start there and minimise the error of the layer's
outputs on calibration images (`data`), which it sees behind the layers that were replaced before it (`spaces.output_error`).
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV
from spaces.gene import check_choice, check_range
from spaces.method import FACTORISE, Compression


@dataclass(frozen=True)
class Separable(Compression):
    """Two rectangular convolutions in place of one; `keep` is the share of its weights that they have, at most."""

    SOURCE: ClassVar[str] = "Jaderberg et al., 2014 [57]"
    PHASE: ClassVar[int] = FACTORISE
    APPLIES: ClassVar[tuple[str, ...]] = (CONV,)
    GAIN: ClassVar[str] = "bytes and time: two smaller dense convolutions"
    SETTINGS: ClassVar[tuple[str, ...]] = ("separable-keep0.7", "separable", "separable-keep0.25", "separable-keep0.1")
    keep: float = 0.5
    objective: str = "data"

    def __post_init__(self):
        check_range("separable keep", self.keep, 0.001, 1)
        check_choice("separable objective", self.objective, ("data", "filter"))

    def prepare(self, layer):
        """Where no images are to be had: nearest weights."""
        from spaces.factors import whole_weight
        from spaces.vertical_horizontal import as_pair, maps_for, nearest

        weight = whole_weight(layer, self)
        return as_pair(layer, *nearest(weight, maps_for(weight, self.keep)))

    def prepare_at(self, site):
        from spaces.factors import whole_weight
        from spaces.output_error import fitted, second_moments
        from spaces.vertical_horizontal import as_pair, maps_for

        if self.objective == "filter":
            return self.prepare(site.layer)
        weight = whole_weight(site.layer, self)
        return as_pair(site.layer, *fitted(weight, second_moments(site.layer, site.inputs), maps_for(weight, self.keep)))
