"""Sparse weights as they are stored: one mask bit a weight (row-major, lowest bit of a byte first) and
the kept values in order. Unpacked once, when the weights are loaded: it saves bytes, not time.

bitmap uint8 [ceil(n / 8)], values [kept] of any type, shape with n elements.
"""

import math

import torch


def reference(bitmap: torch.Tensor, values: torch.Tensor, shape: list[int]) -> torch.Tensor:
    bits = (bitmap.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8)) & 1
    mask = bits.flatten()[: math.prod(shape)].to(torch.bool)
    place = torch.cumsum(mask.to(torch.int64), 0) - 1
    kept = torch.cat([values, values.new_zeros(1)])
    return kept[torch.where(mask, place, values.numel())].reshape(shape)


unpack_bitmap = torch.library.custom_op("netwright::unpack_bitmap", mutates_args=())(reference)


@unpack_bitmap.register_fake
def _shape(bitmap, values, shape):
    return values.new_empty(shape)
