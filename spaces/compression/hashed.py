"""HashedNets (Chen et al., Compressing neural networks with the hashing trick, 2015 [40]): the weights of a layer take their values
from a table of `keep` times as many numbers, at places and with signs that a hash gives, so that nothing else is stored.

The table starts as the mean of the weights that share each number, sign taken off, which is the nearest table; what so random a sharing
breaks is trained back, with the summed gradients of the weights that share a number (equation 12).
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import SpaceError, check_range
from spaces.method import QUANTISE, Compression

SEED = 0


@dataclass(frozen=True)
class Hashed(Compression):
    """`keep`: numbers stored for each weight."""

    SOURCE: ClassVar[str] = "Chen et al., 2015 [40]"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: the table alone; no time, weights are expanded when they are loaded"
    SETTINGS: ClassVar[tuple[str, ...]] = ("hashed-keep0.125",)
    keep: float = 0.125

    def __post_init__(self):
        check_range("hashed keep", self.keep, 0.001, 1)

    def prepare(self, layer):
        from torch.nn.utils import parametrize

        shape = list(layer.weight.shape)
        entries = max(1, round(self.keep * layer.weight.numel()))
        if parametrize.is_parametrized(layer, "weight"):
            raise SpaceError(f"{self}: weights are removed or share numbers already, and its table would mix them; take one of the two")
        parametrize.register_parametrization(layer, "weight", _module()(entries, shape))
        return layer


def _module():
    import math

    import torch
    from torch import nn

    from spaces.ops.unpack_hashed import places
    from spaces.prepared import Packed

    class HashedWeights(nn.Module):
        """A parametrisation that gives weights of `shape` from a table [entries]."""

        def __init__(self, entries: int, shape: list[int]):
            super().__init__()
            self.entries, self.shape = entries, shape
            bucket, sign = places(math.prod(shape), entries, SEED)
            self.register_buffer("bucket", bucket)
            self.register_buffer("sign", sign)

        def forward(self, table):
            return (table[self.bucket] * self.sign).reshape(self.shape)

        def right_inverse(self, weight):
            """The table nearest to the weights."""
            sums = torch.zeros(self.entries, dtype=torch.float64).index_add_(0, self.bucket, (weight.flatten() * self.sign).double())
            return (sums / torch.bincount(self.bucket, minlength=self.entries).clamp(min=1)).float()

        def pack(self, weight: torch.Tensor) -> Packed:
            """The table, and the seed of the hash."""
            return Packed("unpack_hashed", {"table": self.right_inverse(weight), "seed": SEED, "shape": self.shape})

    return HashedWeights
