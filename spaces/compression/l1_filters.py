"""Filter pruning by L1 norm (Li et al., 2017 [18], section 3.1): the filters with the smallest sum of
absolute weights go, with their feature maps and the matching kernels of the next layers.

The neighbours are shrunk by the network's dependency graph, so the layer that is left is an ordinary
smaller one: fewer bytes, fewer operations, less time.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, POINTWISE
from spaces.gene import check_range
from spaces.method import STRUCTURE, Compression


@dataclass(frozen=True)
class L1Filters(Compression):
    """Removes the output channels with the smallest L1 norm; `keep` is the share that stays."""

    SOURCE: ClassVar[str] = "Li et al., 2017 [18]"
    PHASE: ClassVar[int] = STRUCTURE
    APPLIES: ClassVar[tuple[str, ...]] = (CONV, POINTWISE)
    GAIN: ClassVar[str] = "bytes and time: a smaller dense layer, and smaller neighbours"
    keep: float = 0.5

    def __post_init__(self):
        check_range("l1_filters keep", self.keep, 0.01, 1)

    def removed(self, site) -> list[int]:
        from spaces.channels import lowest

        return lowest(site.layer.weight.detach().abs().flatten(1).sum(1), self.keep)
