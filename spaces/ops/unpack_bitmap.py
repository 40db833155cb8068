"""Sparse weights as they are stored: one mask bit a weight (row-major, lowest bit of a byte first) and the kept values in
order.

bitmap uint8 [ceil(n / 8)], values [kept] of any type, shape with n elements.
"""

import math

import torch


def set_bits(bitmap: torch.Tensor, kept: int, shape: list[int]) -> torch.Tensor:
    """For each of the bits, in `shape`: how many set ones stand before it if it is set itself, else `kept`; int64."""
    bits = (bitmap.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8)) & 1
    mask = bits.flatten()[: math.prod(shape)].to(torch.bool)
    place = torch.cumsum(mask.to(torch.int64), 0) - 1
    return torch.where(mask, place, kept).reshape(shape)


def check_bitmap(op: str, bitmap: torch.Tensor, bits: int, what: str) -> None:
    """ValueError unless the bitmap has one bit for each of `bits` numbers or blocks, as `what` names them."""
    expected = (-(-bits // 8),)
    if bitmap.dtype != torch.uint8 or tuple(bitmap.shape) != expected:
        raise ValueError(f"{op}: bitmap is {bitmap.dtype} {list(bitmap.shape)}; {bits} {what} need uint8 {list(expected)}")


def reference(bitmap: torch.Tensor, values: torch.Tensor, shape: list[int]) -> torch.Tensor:
    check_bitmap("unpack_bitmap", bitmap, math.prod(shape), "weights")
    kept = torch.cat([values, values.new_zeros(1)])
    return kept[set_bits(bitmap, values.numel(), shape)]


unpack_bitmap = torch.library.custom_op("netwright::unpack_bitmap", mutates_args=())(reference)


@unpack_bitmap.register_fake
def _shape(bitmap, values, shape):
    return values.new_empty(shape)
