"""Convolution of signs by signs with its epilogue (Rastegari et al., 2016, XNOR-Net [31], section 3.2):
clamp(scale * (n - 2 popcount(x xor weight)) + bias, low, high) in float32.

x uint8 [N, ceil(C/8), H, W] and weight uint8 [O, ceil(C/groups/8), kh, kw] are packed as `binarize` does, bits past
the last channel zero; scale and bias float32 [O]; `channels` is C. The sum runs over the n = C/groups * taps products
whose taps lie in the image: a tap outside contributes nothing, as a zero would, and n is less there. With groups,
C/groups must be a multiple of 8. Sums are exact up to 2^24 products.
"""

import torch

from spaces.packed_signs import check_bits, signs


def reference(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, channels: int,
              stride: list[int], padding: list[int], dilation: list[int], groups: int, low: float,
              high: float) -> torch.Tensor:
    check_bits(x, weight, channels, groups)
    sums = torch.nn.functional.conv2d(signs(x, channels), signs(weight, channels // groups), None, stride, padding,
                                      dilation, groups)
    return torch.clamp(sums * scale.view(-1, 1, 1) + bias.view(-1, 1, 1), low, high)


binary_conv2d = torch.library.custom_op("netwright::binary_conv2d", mutates_args=())(reference)


@binary_conv2d.register_fake
def _shape(x, weight, scale, bias, channels, stride, padding, dilation, groups, low, high):
    image = scale.new_empty([x.shape[0], channels, *x.shape[2:]])
    kernel = scale.new_empty([weight.shape[0], channels // groups, *weight.shape[2:]])
    return torch.nn.functional.conv2d(image, kernel, None, stride, padding, dilation, groups)
