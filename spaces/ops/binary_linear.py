"""Dense layer of signs by signs with its epilogue (Rastegari et al., 2016, XNOR-Net [31], section 3.2):
clamp(scale * (n - 2 popcount(x xor weight)) + bias, low, high) in float32.

x uint8 [N, ceil(C/8)] and weight uint8 [O, ceil(C/8)] are packed as `binarize` does, bits past the last channel zero;
scale and bias float32 [O]; n is `channels`, C. Sums are exact up to 2^24 products.
"""

import torch

from spaces.packed_signs import check_bits, signs


def reference(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, channels: int, low: float,
              high: float) -> torch.Tensor:
    check_bits(x, weight, channels, 1)
    sums = signs(x, channels) @ signs(weight, channels).t()
    return torch.clamp(sums * scale + bias, low, high)


binary_linear = torch.library.custom_op("netwright::binary_linear", mutates_args=())(reference)


@binary_linear.register_fake
def _shape(x, weight, scale, bias, channels, low, high):
    return scale.new_empty([x.shape[0], weight.shape[0]])
