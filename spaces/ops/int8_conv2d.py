"""Convolution in 8-bit integers (Vanhoucke et al., 2011 [46]; Jacob et al., 2018, section 2).

x uint8 [N, C, H, W] is padded with its zero point; weight int8 [O, C/groups, kh, kw]; bias int32 [O] already holds
-zero_point * sum(weight); scale float32 [O]. The epilogue is `spaces.requantise.epilogue`. The reference sums in float64, in
which sums of 32 bits are exact, since torch dilates no integer convolution.
"""

import torch

from spaces.requantise import epilogue, epilogue_dtype


def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor, stride: list[int],
              padding: list[int], dilation: list[int], groups: int, zero_point: int, low: float, high: float,
              out_zero_point: int | None = None) -> torch.Tensor:
    sides = [padding[1], padding[1], padding[0], padding[0]]
    padded = torch.nn.functional.pad(x.to(torch.float64), sides, value=zero_point)
    sums = torch.nn.functional.conv2d(padded, weight.to(torch.float64), None, stride, 0, dilation, groups)
    per_channel = [tensor.view(-1, 1, 1) for tensor in (bias, scale)]
    return epilogue(sums.to(torch.int32), *per_channel, low, high, out_zero_point)


int8_conv2d = torch.library.custom_op("netwright::int8_conv2d", mutates_args=())(reference)


@int8_conv2d.register_fake
def _shape(x, weight, bias, scale, stride, padding, dilation, groups, zero_point, low, high, out_zero_point=None):
    out = torch.nn.functional.conv2d(x.float(), weight.float(), None, stride, padding, dilation, groups)
    return out.to(epilogue_dtype(out_zero_point))
