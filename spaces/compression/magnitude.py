"""Pruning by magnitude with retraining (Han et al., 2015 [11]): the smallest weights of a trained layer
become zero and stay zero while the others are trained on from the values they have.

Stored as one mask bit a weight and the kept values, where that is smaller than all values; where few are kept, a
convolution or dense layer in floats is computed from those alone. Biases are not pruned.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import check_range
from spaces.method import SPARSIFY, Compression


@dataclass(frozen=True)
class Magnitude(Compression):
    """Zeroes the weights of smallest magnitude; `keep` is the share that stays."""

    SOURCE: ClassVar[str] = "Han et al., 2015 [11]"
    PHASE: ClassVar[int] = SPARSIFY
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: bitmap and kept values; time where few are kept"
    SETTINGS: ClassVar[tuple[str, ...]] = ("magnitude-keep0.5", "magnitude-keep0.3", "magnitude-keep0.2", "magnitude-keep0.1", "magnitude-keep0.05")
    keep: float = 0.5

    def __post_init__(self):
        check_range("magnitude keep", self.keep, 0.001, 1)

    def prepare(self, layer):
        import torch
        from torch.nn.utils import parametrize

        from spaces.prepared import Mask, check_unshared

        check_unshared(layer, self)
        size = layer.weight.detach().abs().flatten()
        kept = size.argsort(descending=True, stable=True)[: max(1, round(self.keep * len(size)))]
        mask = torch.zeros_like(size)
        mask[kept] = 1
        parametrize.register_parametrization(layer, "weight", Mask(mask.reshape(layer.weight.shape)))
        return layer
