"""A uint8 tensor with another scale and zero point, such as the operands of a concatenation need (Jacob et al., 2018, appendix
A.3): float32(x - x_zero_point) * scale to the nearest whole number, halves to even, plus zero_point, clamped to [low, high].
"""

import torch

from spaces.prepared import Affine
from spaces.requantise import clamp_steps, ratio, steps


def reference(x: torch.Tensor, x_zero_point: int, scale: float, zero_point: int, low: float, high: float) -> torch.Tensor:
    return steps(torch.round((x.to(torch.float32) - x_zero_point) * scale) + zero_point, low, high)


def arguments(x: Affine, out: Affine, low: float, high: float) -> dict[str, object]:
    """The op's other arguments for tensors of these types; [low, high] are real numbers."""
    return {"x_zero_point": x.zero_point, "scale": ratio(x.scale, out.scale), "zero_point": out.zero_point,
            **clamp_steps(low, high, out.scale, out.zero_point)}


int8_rescale = torch.library.custom_op("netwright::int8_rescale", mutates_args=())(reference)


@int8_rescale.register_fake
def _shape(x, x_zero_point, scale, zero_point, low, high):
    return torch.empty_like(x)
