"""Powers of two as they are stored (Hubara et al., 2016 [30]): codes of 3 or 4 bits, packed as `spaces.bits` says.

The highest bit of a code is the sign, the others e the magnitude: 0 for e = 0, else 2^(e - 1): with 4 bits 0 and
+-1 to +-64, with 3 bits 0 and +-1, 2, 4.

packed uint8 [O, ceil(n * bits / 8)]; gives int8 of `shape` [O, ...] with n numbers a row.
"""

import torch

from spaces.bits import check_bits, codes_of


def reference(packed: torch.Tensor, bits: int, shape: list[int]) -> torch.Tensor:
    check_bits(bits, 3, 4)
    codes, sign = codes_of(packed, bits, shape).to(torch.int8), 1 << (bits - 1)
    exponent = (codes & (sign - 1)) - 1
    magnitude = torch.where(exponent < 0, 0, torch.ones_like(codes) << exponent.clamp(min=0))
    return torch.where((codes & sign) > 0, -magnitude, magnitude)


unpack_pow2 = torch.library.custom_op("netwright::unpack_pow2", mutates_args=())(reference)


@unpack_pow2.register_fake
def _shape(packed, bits, shape):
    return packed.new_empty(shape, dtype=torch.int8)
