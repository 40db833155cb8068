"""Filter pruning by a Taylor expansion of the loss (Molchanov et al., 2017 [17], equation 8): the feature maps go whose removal changes
the loss C least, to first order in the map z behind its activation,

    theta = mean over images of |mean over positions of z dC/dz|

with the cross entropy of each image alone. The paper divides theta by its norm in the layer, and takes off a multiple of the operations
saved, to compare filters of different layers; within one layer, where each filter costs the same, neither changes the order.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, POINTWISE
from spaces.gene import check_range
from spaces.method import STRUCTURE, Compression


@dataclass(frozen=True)
class TaylorFilters(Compression):
    """Removes the output channels that the loss feels least; `keep` is the share that stays."""

    SOURCE: ClassVar[str] = "Molchanov et al., 2017 [17]"
    PHASE: ClassVar[int] = STRUCTURE
    APPLIES: ClassVar[tuple[str, ...]] = (CONV, POINTWISE)
    GAIN: ClassVar[str] = "bytes and time: a smaller dense layer, and smaller neighbours"
    keep: float = 0.5

    def __post_init__(self):
        check_range("taylor_filters keep", self.keep, 0.01, 1)

    def removed(self, site) -> list[int]:
        from spaces.channels import lowest

        return lowest(loss_change(site.maps, site.map_gradients), self.keep)


def loss_change(maps, gradients):
    """theta of maps [N, channels, H, W] and of the gradients of each image's loss with respect to them: [channels]."""
    return (maps * gradients).mean((2, 3)).abs().mean(0)
