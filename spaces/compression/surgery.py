"""Dynamic network surgery (Guo et al., 2016 [15]): weights are cut and spliced while the network trains, by a mask T that follows them.

The network computes with W T, and the gradient of the loss with respect to W T moves all of W, what is cut too (equation 2). With
probability (1 + gamma i)^-power before iteration i, until a share `stop` of the run, after which T stays (equation 3):

    T = 0 where |W| <= a,    1 where |W| > b,    else as it was;    a = 0.9 t,    b = 1.1 t,    t = max(mean + c std, 0)

with mean and deviation those of |W| when it begins. In place of c one gives the share `keep` of weights above t, from which c follows: it
means the same in every layer. What is kept in the end is training's choice. Stored as one mask bit a weight and the kept values. Biases
are not cut.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import SpaceError, check_range
from spaces.method import SPARSIFY, Compression


@dataclass(frozen=True)
class Surgery(Compression):
    """Cuts weights and splices them again; `keep` is the share above the threshold when it begins."""

    SOURCE: ClassVar[str] = "Guo et al., 2016 [15]"
    PHASE: ClassVar[int] = SPARSIFY
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: bitmap and kept values; time where few are kept"
    keep: float = 0.3
    gamma: float = 0.001
    power: float = 1.0
    stop: float = 0.5

    def __post_init__(self):
        check_range("surgery keep", self.keep, 0.001, 0.99)
        check_range("surgery gamma", self.gamma, 0, 1)
        check_range("surgery power", self.power, 0, 10)
        check_range("surgery stop", self.stop, 0, 1)

    @property
    def shapes_fixed(self) -> bool:
        return False

    def chance(self, iteration: int) -> float:
        """The probability of surgery before an iteration, the first being 0."""
        return (1 + self.gamma * iteration) ** -self.power

    def threshold(self, weight) -> float:
        """t: the largest magnitude that a share `keep` of the weights is above."""
        size = weight.detach().abs().flatten().sort(descending=True).values
        return float(size[min(round(self.keep * len(size)), len(size) - 1)])

    def prepare(self, layer):
        from torch.nn.utils import parametrize

        from spaces.masks import SplicedMask
        from spaces.prepared import check_unshared

        check_unshared(layer, self)
        weight = layer.weight.detach()
        if not weight.any():
            raise SpaceError(f"{self}: the layer's weights are all zero")
        parametrize.register_parametrization(layer, "weight", SplicedMask(weight, self.threshold(weight), self.chance, self.stop))
        return layer
