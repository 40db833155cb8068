"""Pruning by magnitude with retraining (Han et al., 2015 [11]): the smallest weights of a trained layer
become zero and stay zero while the others are trained on from the values they have.

Which are small is said by the share that stays, or by the paper's quality q: those below q standard deviations of the layer's weights. In
r rounds of equal length the training that follows prunes r times, each time to the same share of what was left, so that after the last
there is what one round would have left: with k of n weights to stay, n (k / n)^(i / r) are left after round i, and train.

Stored as one mask bit a weight and the kept values, where that is smaller than all values; where few are kept, a
convolution or dense layer in floats is computed from those alone. Biases are not pruned.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import SpaceError, check_range
from spaces.method import SPARSIFY, Compression


@dataclass(frozen=True)
class Magnitude(Compression):
    """Zeroes the weights of smallest magnitude; `keep` is the share that stays.

    `quality` can be given in its place; `rounds`: how many times it prunes.
    """

    SOURCE: ClassVar[str] = "Han et al., 2015 [11]"
    PHASE: ClassVar[int] = SPARSIFY
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: bitmap and kept values; time where few are kept"
    SETTINGS: ClassVar[tuple[str, ...]] = (
        "magnitude-keep0.5", "magnitude-keep0.3", "magnitude-keep0.2", "magnitude-keep0.1", "magnitude-keep0.05")
    keep: float = 0.5
    quality: float = 0.0
    rounds: int = 1

    def __post_init__(self):
        check_range("magnitude keep", self.keep, 0.001, 1)
        check_range("magnitude quality", self.quality, 0, 10)
        check_range("magnitude rounds", self.rounds, 1, 100)
        if self.quality and self.keep != type(self).keep:
            raise SpaceError(f"{self}: give either the share to keep (magnitude-keep0.3) or a quality (magnitude-quality1.5)")

    @property
    def shapes_fixed(self) -> bool:
        return not self.quality

    def kept(self, weight) -> int:
        """How many of the weights stay."""
        if self.quality:
            return max(1, int((weight.abs() >= self.quality * weight.std(correction=0)).sum()))
        return max(1, round(self.keep * weight.numel()))

    def prepare(self, layer):
        from torch.nn.utils import parametrize

        from spaces.masks import RoundsMask, largest
        from spaces.prepared import Mask, check_unshared

        check_unshared(layer, self)
        weight = layer.weight.detach()
        few, many = self.kept(weight), weight.numel()
        if self.rounds == 1:
            mask = Mask(largest(weight, few))
        else:
            mask = RoundsMask(weight, self.rounds, lambda done: round(many * (few / many) ** ((done + 1) / self.rounds)))
        parametrize.register_parametrization(layer, "weight", mask)
        return layer
