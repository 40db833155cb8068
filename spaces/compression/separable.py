"""Low-rank expansions (Jaderberg et al., 2014 [57]) of a d x d convolution of C maps to N.

Scheme 2: a d x 1 convolution to K maps and a 1 x d one behind it, all maps mixed in both: d K (C + N) weights, and as many multiplications
a place. They minimise the error of the weights (`filter`: the closed form of `vh_lowrank`), or start there and minimise the error of the
layer's outputs on calibration images (`data`), which it sees behind the layers that were replaced before it (`spaces.output_error`).

Scheme 1: a bank of M separable filters for each input map, W[n, c] ~ sum_m a_ncm v_cm h_cm^T: a d x 1 depthwise convolution of M outputs
a map, a 1 x d depthwise one, and a 1x1 to the outputs: C M (2 d + N) weights. It minimises the error of the weights alone, which is a
decomposition of its own for each map (`spaces.canonical`).
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV
from spaces.gene import SpaceError, check_choice, check_range
from spaces.method import FACTORISE, Compression


@dataclass(frozen=True)
class Separable(Compression):
    """Rectangular convolutions in place of one; `keep` is the share of its weights that they have, at most."""

    SOURCE: ClassVar[str] = "Jaderberg et al., 2014 [57]"
    PHASE: ClassVar[int] = FACTORISE
    APPLIES: ClassVar[tuple[str, ...]] = (CONV,)
    GAIN: ClassVar[str] = "bytes and time: two smaller dense convolutions"
    SETTINGS: ClassVar[tuple[str, ...]] = ("separable-keep0.7", "separable", "separable-keep0.25", "separable-keep0.1")
    keep: float = 0.5
    objective: str = "data"
    scheme: int = 2

    def __post_init__(self):
        check_range("separable keep", self.keep, 0.001, 1)
        check_choice("separable objective", self.objective, ("data", "filter"))
        check_choice("separable scheme", self.scheme, (1, 2))
        if self.scheme == 1 and self.objective == "data":
            raise SpaceError(f"{self}: scheme 1 has the objective filter alone; give separable-scheme1-objective_filter")

    def prepare(self, layer):
        """Where no images are to be had: nearest weights."""
        from spaces.factors import whole_weight
        from spaces.vertical_horizontal import as_pair, maps_for, nearest

        weight = whole_weight(layer, self)
        if self.scheme == 1:
            return in_a_bank(layer, *bank(weight, self.keep))
        return as_pair(layer, *nearest(weight, maps_for(weight, self.keep)))

    def prepare_at(self, site):
        from spaces.factors import whole_weight
        from spaces.output_error import fitted, second_moments
        from spaces.vertical_horizontal import as_pair, maps_for

        if self.objective == "filter":
            return self.prepare(site.layer)
        weight = whole_weight(site.layer, self)
        return as_pair(site.layer, *fitted(weight, second_moments(site.layer, site.inputs), maps_for(weight, self.keep)))


def bank(weight, keep: float):
    """The filters v [C, M, height] and h [C, M, width] and how they are mixed, a [N, C, M], of at most the share `keep` of the weights,
    float64 [N, C, height, width]. A map that no output reads has filters of zero."""
    import torch

    from spaces.canonical import decomposed

    n, c, height, width = weight.shape
    filters = max(1, min(height * width, int(keep * n * height * width / (n + height + width))))
    nothing = [torch.zeros(size, filters, dtype=weight.dtype) for size in (n, height, width)]
    found = [map(torch.as_tensor, decomposed(weight[:, i].numpy(), filters)[0]) if weight[:, i].any() else nothing for i in range(c)]
    a, v, h = (torch.stack(each) for each in zip(*found))
    return v.transpose(1, 2), h.transpose(1, 2), a.transpose(0, 1)


def in_a_bank(layer, vertical, horizontal, mixed):
    """The layer as these three convolutions; as it was where they would not be smaller."""
    from spaces.factors import HEIGHT, WIDTH, Factor, in_a_row

    inputs, filters = vertical.shape[:2]
    v, h = vertical.flatten(0, 1)[:, None, :, None], horizontal.flatten(0, 1)[:, None, None, :]
    return in_a_row(layer, Factor(v, (HEIGHT,), inputs), Factor(h, (WIDTH,), inputs * filters), Factor(mixed.flatten(1)[..., None, None]))
