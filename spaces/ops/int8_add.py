"""Sum of two uint8 tensors, each with its own scale and zero point, as a third (Jacob et al., 2018, appendix A.2).

x * x_scale + (y * y_scale + offset) in float32, each product and its sum rounded once (fused), to the nearest whole number, halves
to even, clamped to [low, high]. The zero points are in the offset. x and y have one shape.
"""

import torch

from spaces.prepared import Affine
from spaces.requantise import clamp_steps, float32, ratio, steps


def reference(x: torch.Tensor, y: torch.Tensor, x_scale: float, y_scale: float, offset: float, low: float,
              high: float) -> torch.Tensor:
    return steps(torch.round(_fused(x, x_scale, _fused(y, y_scale, offset))), low, high)


def _fused(x, scale: float, offset):
    """float32(x * scale + offset), rounded in float64 before: that has room for the product's 32 bits and, but where the sum is
    within 2^-53 of a half, for what they and the offset's 24 decide."""
    return (x.to(torch.float64) * scale + offset).to(torch.float32)


def arguments(x: Affine, y: Affine, out: Affine, low: float, high: float) -> dict[str, object]:
    """The op's other arguments for tensors of these types; [low, high] are real numbers."""
    x_scale, y_scale = ratio(x.scale, out.scale), ratio(y.scale, out.scale)
    zeros = float32(x_scale * x.zero_point + float32(y_scale * y.zero_point))
    return {"x_scale": x_scale, "y_scale": y_scale, "offset": float32(out.zero_point - zeros),
            **clamp_steps(low, high, out.scale, out.zero_point)}


int8_add = torch.library.custom_op("netwright::int8_add", mutates_args=())(reference)


@int8_add.register_fake
def _shape(x, y, x_scale, y_scale, offset, low, high):
    return torch.empty_like(x)
