"""Numbers to signs: +1 where x >= threshold, else -1 (Courbariaux et al., 2016 [29], equation 1), packed.

x float32 or uint8 [N, C, H, W] or [N, C], `threshold` in x's own numbers (the zero point of a uint8 tensor; a uint8
is compared as a float32); the result is uint8 [N, ceil(C/8), H, W] or [N, ceil(C/8)]: channel 8i + j is bit j of
byte i, set for +1; bits past the last channel are zero. NaN is -1.
"""

import torch

from spaces.packed_signs import pack_signs


def reference(x: torch.Tensor, threshold: float) -> torch.Tensor:
    if x.dtype not in (torch.float32, torch.uint8):
        raise ValueError(f"x is {x.dtype}; signs are taken of torch.float32 or torch.uint8")
    return pack_signs(x.to(torch.float32) >= threshold)


binarize = torch.library.custom_op("netwright::binarize", mutates_args=())(reference)


@binarize.register_fake
def _shape(x, threshold):
    return x.new_empty([x.shape[0], -(-x.shape[1] // 8), *x.shape[2:]], dtype=torch.uint8)
