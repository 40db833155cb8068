"""Signed integers of 2 to 7 bits as they are stored: two's complement, packed as `spaces.bits` says.

packed uint8 [O, ceil(n * bits / 8)]; gives int8 of `shape` [O, ...] with n numbers a row.
"""

import torch

from spaces.bits import check_bits, codes_of


def reference(packed: torch.Tensor, bits: int, shape: list[int]) -> torch.Tensor:
    check_bits(bits, 2, 7)
    codes, sign = codes_of(packed, bits, shape).to(torch.int8), 1 << (bits - 1)
    return (codes ^ sign) - sign


unpack_bits = torch.library.custom_op("netwright::unpack_bits", mutates_args=())(reference)


@unpack_bits.register_fake
def _shape(packed, bits, shape):
    return packed.new_empty(shape, dtype=torch.int8)
