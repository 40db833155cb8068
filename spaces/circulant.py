"""A layer's weights as circulant blocks (Cheng et al., 2015 [63]; Ding et al., 2017)."""

import torch
from torch import nn
from torch.nn.functional import pad

from spaces.ops.unpack_circulant import reference as unpacked
from spaces.prepared import Packed


class Circulant(nn.Module):
    """A parametrisation: a weight of `shape`, [O, I] or [O, I, 1, 1], of trainable first columns of blocks of side `block`,
    [ceil(O/block), ceil(I/block), block]."""

    def __init__(self, shape: list[int], block: int):
        super().__init__()
        self.shape, self.block = shape, block

    def forward(self, values):
        return unpacked(values, self.shape)

    def right_inverse(self, weight):
        """The nearest: means along each block's turned diagonals, in float64, so that equal numbers give themselves."""
        means = self._sums(weight.detach().double()) / self._sums(torch.ones_like(weight, dtype=torch.float64)).clamp(min=1)
        return means.to(weight.dtype)

    def _sums(self, weight: torch.Tensor) -> torch.Tensor:
        """Sums along the turned diagonals [O/block, I/block, block] of what lies in the weight."""
        outputs, inputs = self.shape[:2]
        whole = pad(weight.reshape(outputs, inputs), (0, -inputs % self.block, 0, -outputs % self.block))
        blocks = whole.unflatten(1, (-1, self.block)).unflatten(0, (-1, self.block)).transpose(1, 2)
        place = torch.arange(self.block)
        return blocks[:, :, (place[:, None] + place) % self.block, place].sum(3)

    def pack(self, weight: torch.Tensor) -> torch.Tensor | Packed:
        """The first columns; weights that are no longer circulant, because they were rounded by rows, stay whole."""
        values = self.right_inverse(weight)
        if not torch.equal(unpacked(values, self.shape), weight):
            return weight
        return Packed("unpack_circulant", {"values": values, "shape": self.shape})
