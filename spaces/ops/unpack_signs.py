"""Weights -1 and 1 as they are stored: one bit a weight, packed as `spaces.bits` says (Courbariaux et al., 2015 [28]).

negative uint8 [O, ceil(n / 8)]: 1 where a weight is -1. Gives int8 of `shape` [O, ...] with n numbers a row.
"""

import torch

from spaces.bits import codes_of


def reference(negative: torch.Tensor, shape: list[int]) -> torch.Tensor:
    return 1 - 2 * codes_of(negative, 1, shape).to(torch.int8)


unpack_signs = torch.library.custom_op("netwright::unpack_signs", mutates_args=())(reference)


@unpack_signs.register_fake
def _shape(negative, shape):
    return negative.new_empty(shape, dtype=torch.int8)
