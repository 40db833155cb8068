"""Block-sparse weights as they are stored (Gray, Radford and Kingma, GPU kernels for block-sparse weights, 2017): one mask
bit a block, and the kept blocks whole.

A block is `rows` neighbouring output channels by `columns` neighbouring input channels of one pixel of the kernel; where
the channels are no multiple, the last block reaches past them, and what lies there is left out. Bits go by outputs, then
inputs, then the kernel's pixels, lowest bit of a byte first. bitmap uint8 [ceil(blocks / 8)], values [kept, columns, rows]
of any type (outputs in a row, as vectors of them are loaded), shape [outputs, inputs, ...].
"""

import math

import torch

from spaces.ops.unpack_bitmap import check_bitmap, set_bits


def grid_of(shape: list[int], rows: int, columns: int) -> list[int]:
    """Blocks along outputs, inputs and the kernel's pixels."""
    outputs, inputs, *kernel = shape
    return [-(-outputs // rows), -(-inputs // columns), math.prod(kernel)]


def reference(bitmap: torch.Tensor, values: torch.Tensor, shape: list[int]) -> torch.Tensor:
    if values.dim() != 3:
        raise ValueError(f"unpack_blocks: values are {list(values.shape)}; they must be [kept, columns, rows]")
    kept, columns, rows = values.shape
    grid = grid_of(shape, rows, columns)
    check_bitmap("unpack_blocks", bitmap, math.prod(grid), f"blocks of {rows}x{columns}")
    blocks = torch.cat([values, values.new_zeros(1, columns, rows)])[set_bits(bitmap, kept, grid)]
    whole = blocks.permute(0, 4, 1, 3, 2).reshape(grid[0] * rows, grid[1] * columns, grid[2])
    return whole[: shape[0], : shape[1]].contiguous().view(shape)


unpack_blocks = torch.library.custom_op("netwright::unpack_blocks", mutates_args=())(reference)


@unpack_blocks.register_fake
def _shape(bitmap, values, shape):
    return values.new_empty(shape)
