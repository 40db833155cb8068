"""Layers whose weights are vectors of a codebook, while they are trained and as they are stored.

The table is what is trained: each of its vectors gets the sum of the gradients of all weights that share it (Han et al.,
Deep compression, 2016, section 3); which weights share it stays as it was chosen.
"""

import torch
from torch import nn
from torch.nn.utils import parametrize

from spaces.gene import SpaceError
from spaces.ops.unpack_codebook import decode, rows
from spaces.prepared import Packed, bitmap


class SharedWeights(nn.Module):
    """A parametrisation that gives weights of `shape` from a table of `sizes` [tables, entries, length] by integer codes
    [outputs, segments, positions]; weights outside the mask (of the same shape, None for no mask) are zero."""

    def __init__(self, codes: torch.Tensor, sizes: tuple[int, int, int], shape: list[int], mask: torch.Tensor | None):
        super().__init__()
        self.sizes, self.shape = sizes, shape
        self.register_buffer("codes", codes)
        self.register_buffer("mask", mask)

    def forward(self, table):
        weight = decode(self.codes, table, self.shape)
        return weight if self.mask is None else weight * self.mask

    def right_inverse(self, weight):
        """The table that comes nearest to the weights: the mean of those that share a number."""
        tables, entries, length = self.sizes
        counted = torch.ones_like(weight) if self.mask is None else self.mask
        place = rows(self.codes, tables, entries).flatten()
        sums, counts = (torch.zeros(tables * entries, length, dtype=torch.float64).index_add_(
            0, place, sub_vectors(numbers, length).double().flatten(0, 2)) for numbers in (weight * counted, counted))
        return (sums / counts.clamp(min=1)).float().view(self.sizes)

    def pack(self, weight: torch.Tensor) -> Packed:
        """Packed codes and the table; under a mask, a bitmap and the codes of what is kept."""
        table = self.right_inverse(weight)
        if self.mask is None:
            return packed_codebook(self.codes.flatten(), table, self.shape)
        kept = self.codes.flatten()[self.mask.flatten() != 0]
        return bitmap(self.mask, packed_codebook(kept, table, [len(kept)]))


def share(layer: nn.Module, codes: torch.Tensor, sizes: tuple[int, int, int], mask: torch.Tensor | None = None) -> nn.Module:
    """The layer, in place, with weights that share the vectors of a table. Arguments as of `SharedWeights`."""
    shape = list(layer.weight.shape)
    if parametrize.is_parametrized(layer, "weight"):
        parametrize.remove_parametrizations(layer, "weight")
    parametrize.register_parametrization(layer, "weight", SharedWeights(codes, sizes, shape, mask))
    return layer


def mask_of(layer: nn.Module) -> torch.Tensor | None:
    """The mask that an earlier compression put on the layer's weights; None if there is none. SpaceError if training will change it."""
    masks = [module for module in layer.modules() if getattr(module, "mask", None) is not None]
    if masks and hasattr(masks[-1], "hooks"):
        raise SpaceError("training changes which weights are kept, and a codebook's codes are given to those kept now; take one of the two")
    return masks[-1].mask if masks else None


def sub_vectors(weight: torch.Tensor, length: int) -> torch.Tensor:
    """Weights [outputs, inputs, kernel...] as [outputs, segments, positions, length]; zeros past the last input."""
    flat = weight.flatten(2) if weight.dim() > 2 else weight.unsqueeze(2)
    padded = nn.functional.pad(flat, (0, 0, 0, -flat.shape[1] % length))
    return padded.unflatten(1, (-1, length)).transpose(2, 3)


def packed_codebook(codes: torch.Tensor, table: torch.Tensor, shape: list[int]) -> Packed:
    """Codes in a row, with as many bits as the table's entries take."""
    bits = max(1, (table.shape[1] - 1).bit_length())
    return Packed("unpack_codebook", {"codes": pack_bits(codes, bits), "table": table, "bits": bits, "shape": shape})


def pack_bits(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes [count] below 2^bits in a stream of `bits` each, lowest bit first; uint8 [ceil(count * bits / 8)]."""
    stream = ((codes.unsqueeze(1) >> torch.arange(bits)) & 1).flatten().to(torch.uint8)
    padded = nn.functional.pad(stream, (0, -len(stream) % 8)).view(-1, 8)
    return (padded << torch.arange(8, dtype=torch.uint8)).sum(1).to(torch.uint8)
