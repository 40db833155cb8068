"""Convolution in 8-bit integers (Vanhoucke et al., 2011 [46]; Jacob et al., 2018, section 2).

x uint8 [N, C, H, W] is padded with its zero point; weight int8 [O, C/groups, kh, kw]; bias int32 [O] already holds
-zero_point * sum(weight); scale float32 [O]. The epilogue is `spaces.requantise.epilogue`. The reference sums in floats, in
which these sums are exact, since torch dilates no integer convolution.
"""

from functools import reduce

import torch

from spaces.requantise import epilogue, epilogue_dtype


def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor, stride: list[int],
              padding: list[int], dilation: list[int], groups: int, zero_point: int, low: float, high: float,
              out_zero_point: int | None = None) -> torch.Tensor:
    extra = _extra(weight, groups)
    sides = [padding[1], padding[1] + extra * dilation[1], padding[0], padding[0]]
    padded = torch.nn.functional.pad(x, sides, value=zero_point)
    widened = torch.nn.functional.pad(weight, [0, extra])
    size, exact = _exact(weight, x.shape[1], groups)
    sums = [torch.nn.functional.conv2d(part.to(exact), kernels.to(exact), None, stride, 0, dilation, groups).to(torch.int32)
            for part, kernels in zip(padded.split(size, 1), widened.split(size, 1))]
    return epilogue(reduce(torch.add, sums), bias.view(-1, 1, 1), scale.view(-1, 1, 1), low, high, out_zero_point)


def _exact(weight: torch.Tensor, channels: int, groups: int) -> tuple[int, torch.dtype]:
    """How many channels to sum at once, and the type in which such sums of products of bytes are exact: float32 where it can be, which is
    several times faster."""
    most = 2**24 // (255 * 128 * weight[0, 0].numel())
    if groups == 1 and most:
        return min(most, channels), torch.float32
    return channels, torch.float32 if weight.shape[1] <= most else torch.float64


def _extra(weight: torch.Tensor, groups: int) -> int:
    """Columns of zeros that make a kernel's width even, after which nothing computes it by Winograd's algorithm, whose factors are no
    integers; kernels of one channel need none."""
    return int(groups < weight.shape[0] and weight[0, 0].numel() > 1 and weight.shape[3] % 2)


int8_conv2d = torch.library.custom_op("netwright::int8_conv2d", mutates_args=())(reference)


@int8_conv2d.register_fake
def _shape(x, weight, bias, scale, stride, padding, dilation, groups, zero_point, low, high, out_zero_point=None):
    out = torch.nn.functional.conv2d(x.float(), weight.float(), None, stride, padding, dilation, groups)
    return out.to(epilogue_dtype(out_zero_point))
