"""Weights -1, 0, 1 as they are stored: two planes of one bit a weight, packed as `spaces.bits` says (Li et al., 2016 [36]).

active uint8 [O, ceil(n / 8)]: 1 where a weight is not zero; negative, of the same shape: 1 where it is -1, ignored where
it is zero. Gives int8 of `shape` [O, ...] with n numbers a row.
"""

import torch

from spaces.bits import codes_of


def reference(active: torch.Tensor, negative: torch.Tensor, shape: list[int]) -> torch.Tensor:
    signs = 1 - 2 * codes_of(negative, 1, shape).to(torch.int8)
    return codes_of(active, 1, shape).to(torch.int8) * signs


unpack_ternary = torch.library.custom_op("netwright::unpack_ternary", mutates_args=())(reference)


@unpack_ternary.register_fake
def _shape(active, negative, shape):
    return active.new_empty(shape, dtype=torch.int8)
