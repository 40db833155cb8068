"""Masks over blocks of a layer's weights: which are kept, and how they are stored."""

import torch
from torch import nn

from spaces.prepared import Mask, Packed, packed_bits


class BlockMask(Mask):
    """Keeps the weights under a fixed mask at zero, block by block. A block is `rows` output channels by `columns` input
    channels of one pixel of the kernel."""

    def __init__(self, mask: torch.Tensor, rows: int, columns: int):
        super().__init__(mask)
        self.rows, self.columns = rows, columns

    def pack(self, weight: torch.Tensor) -> Packed:
        """A bitmap over blocks, and those that are not all zero."""
        blocks = blocks_of(weight, self.rows, self.columns)
        bits = (blocks != 0).flatten(3).any(3)
        return Packed("unpack_blocks", {"bitmap": packed_bits(bits), "values": blocks[bits], "shape": list(weight.shape)})


def blocks_of(weight: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The weights [outputs, inputs, ...] as [output blocks, input blocks, kernel pixels, columns, rows], zeros past the last
    channel."""
    outputs, inputs = weight.shape[:2]
    whole = nn.functional.pad(weight.reshape(outputs, inputs, -1), (0, 0, 0, -inputs % columns, 0, -outputs % rows))
    return whole.unflatten(1, (-1, columns)).unflatten(0, (-1, rows)).permute(0, 2, 4, 3, 1)


def largest_blocks(weight: torch.Tensor, rows: int, columns: int, keep: float) -> torch.Tensor:
    """A mask of the weights' shape: ones where the share `keep` of blocks, at least one, has the largest Euclidean norms."""
    norms = blocks_of(weight, rows, columns).square().sum((3, 4))
    kept = norms.flatten().argsort(descending=True, stable=True)[: max(1, round(keep * norms.numel()))]
    mask = torch.zeros(norms.numel()).index_fill(0, kept, 1).reshape(norms.shape)
    whole = mask.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    return whole[: weight.shape[0], : weight.shape[1]].reshape(weight.shape)
