"""Structured sparsity learning, SSL (Wen et al., 2016 [80], equations 2 and 3): a group lasso while the network is trained, on filters and
on the channels that read their maps,

    loss + filters sum_n ||W[n]|| + channels sum_n ||W'[:, n]||

with W the layer's weights and W' those of the layers that read it; whatever gives or reads the same channel by way of a residual, a
concatenation or a gate is in its group. A filter's group holds its bias or its norm's shift, so that one at zero gives a map of zeros.
Where norms hide how large weights are, these count in the size that norms give them (`spaces.channels`).

The subgradient brings groups near zero, not to it: what is under `threshold` of the layer's largest, as a filter or as a channel, is
removed for good before the network is trained on. Groups of the other kinds, shapes and depth, are left out: a smaller shape is no smaller
layer to a direct convolution, and how deep a network is, blocks such as `skip` decide.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, POINTWISE
from spaces.gene import check_range
from spaces.method import STRUCTURE, Compression


@dataclass(frozen=True)
class StructuredSparsity(Compression):
    """Removes the output channels that a group lasso has brought near zero.

    `filters`, `channels`: how much it counts on either kind of group; `threshold`: the share of the largest group under which one goes.
    """

    SOURCE: ClassVar[str] = "Wen et al., 2016 [80]"
    PHASE: ClassVar[int] = STRUCTURE
    APPLIES: ClassVar[tuple[str, ...]] = (CONV, POINTWISE)
    GAIN: ClassVar[str] = "bytes and time: a smaller dense layer, and smaller neighbours"
    filters: float = 0.01
    channels: float = 0.01
    threshold: float = 0.05

    def __post_init__(self):
        check_range("structured_sparsity filters", self.filters, 0, 10)
        check_range("structured_sparsity channels", self.channels, 0, 10)
        check_range("structured_sparsity threshold", self.threshold, 0, 1)

    @property
    def shapes_fixed(self) -> bool:
        return False

    def before(self, layer, run):
        from spaces.channels import Penalised, channels_of
        from spaces.trace import trace

        groups = channels_of(layer, trace(run.network), run.example[:1])
        return Penalised(lambda: self.penalty(groups))

    def penalty(self, groups):
        """The group lasso of a layer's channels, a scalar."""
        return self.filters * groups.written().sum() + self.channels * groups.read().sum()

    def removed(self, site) -> list[int]:
        from spaces.channels import channels_of, shares, under

        groups = channels_of(site.layer, site.network, site.calibration.images[:1])
        return under(shares(groups.written()).minimum(shares(groups.read())), self.threshold)
