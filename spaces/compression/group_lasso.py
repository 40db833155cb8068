"""Group sparse regularisation (Scardapane et al., 2017 [75], equations 6 to 8): while the network is trained, its loss has the penalty

    strength (sum_g sqrt|g| ||w_g|| + ||w||_1)

A group g holds the weights that read one neuron, or of a convolution one channel (`spaces.channels`); each bias, or norm's shift, is a
group of its own. A neuron that nothing reads is removed, with all that gives it, before the network is trained on. `kind` leaves out
one of the two sums: `group` the second, `l1` the first. Where norms hide how large weights are, these count in the size that norms give
them.

The subgradient brings groups near zero, not to it: what is under `threshold` of the layer's largest goes. Zeros inside the groups that stay
are stored as such by a method behind this one in the chain, such as `magnitude`. Pixels of the image are no layer's outputs and stay.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, POINTWISE
from spaces.gene import check_choice, check_range
from spaces.method import STRUCTURE, Compression


@dataclass(frozen=True)
class GroupLasso(Compression):
    """Removes the output channels whose outgoing weights a penalty has brought near zero.

    `kind`: which sums the penalty has; `strength`: how much it counts; `threshold`: the share of the largest group under which one goes.
    """

    SOURCE: ClassVar[str] = "Scardapane et al., 2017 [75]"
    PHASE: ClassVar[int] = STRUCTURE
    APPLIES: ClassVar[tuple[str, ...]] = (CONV, POINTWISE)
    GAIN: ClassVar[str] = "bytes and time: a smaller dense layer, and smaller neighbours"
    kind: str = "sparse_group"
    strength: float = 0.001
    threshold: float = 0.001

    def __post_init__(self):
        check_choice("group_lasso kind", self.kind, ("l1", "group", "sparse_group"))
        check_range("group_lasso strength", self.strength, 0, 10)
        check_range("group_lasso threshold", self.threshold, 0, 1)

    @property
    def shapes_fixed(self) -> bool:
        return False

    def before(self, layer, run):
        from spaces.channels import Penalised, channels_of
        from spaces.trace import trace

        channels = channels_of(layer, trace(run.network), run.example[:1])
        return Penalised(lambda: self.penalty(channels))

    def penalty(self, channels):
        """The penalty of the groups that read a layer's channels and of its biases, a scalar."""
        biases = channels.sums(channels.writers, lambda end: end.shifts().abs())
        groups = channels.reading().sqrt() * channels.read() + biases
        single = channels.sums(channels.readers, lambda end: end.weights().abs().sum(1)) + biases
        return self.strength * {"l1": single, "group": groups, "sparse_group": groups + single}[self.kind].sum()

    def removed(self, site) -> list[int]:
        from spaces.channels import channels_of, shares, under

        return under(shares(channels_of(site.layer, site.network, site.calibration.images[:1]).read()), self.threshold)
