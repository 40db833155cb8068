"""Convolution in 8-bit integers (Vanhoucke et al., 2011 [46]; Jacob et al., 2018, section 2).

x uint8 [N, C, H, W] is padded with its zero point; weight int8 [O, C/groups, kh, kw]; bias int32 [O] already holds
-zero_point * sum(weight); scale float32 [O]. The epilogue is `spaces.requantise.epilogue`. The reference sums in floats, in
which these sums are exact, since torch dilates no integer convolution.
"""

import torch

from spaces.requantise import epilogue, epilogue_dtype


def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor, stride: list[int],
              padding: list[int], dilation: list[int], groups: int, zero_point: int, low: float, high: float,
              out_zero_point: int | None = None) -> torch.Tensor:
    sides = [padding[1], padding[1], padding[0], padding[0]]
    exact = _exact(weight, groups)
    padded = torch.nn.functional.pad(x.to(exact), sides, value=zero_point)
    sums = torch.nn.functional.conv2d(padded, weight.to(exact), None, stride, 0, dilation, groups)
    per_channel = [tensor.view(-1, 1, 1) for tensor in (bias, scale)]
    return epilogue(sums.to(torch.int32), *per_channel, low, high, out_zero_point)


def _exact(weight: torch.Tensor, groups: int) -> torch.dtype:
    """The fastest type in which sums of products of bytes are exact. Other kernels than 1x1 and depthwise ones may be computed by
    Winograd's algorithm, whose factors are no integers."""
    plain = weight.shape[2:] == (1, 1) or groups == weight.shape[0]
    return torch.float32 if plain and weight[0].numel() * 255 * 128 < 2**24 else torch.float64


int8_conv2d = torch.library.custom_op("netwright::int8_conv2d", mutates_args=())(reference)


@int8_conv2d.register_fake
def _shape(x, weight, bias, scale, stride, padding, dilation, groups, zero_point, low, high, out_zero_point=None):
    out = torch.nn.functional.conv2d(x.float(), weight.float(), None, stride, padding, dilation, groups)
    return out.to(epilogue_dtype(out_zero_point))
