"""Sum of two uint8 tensors, each with its own scale and zero point, as a third (Jacob et al., 2018, appendix A.2).

((x - x_zero_point) * x_scale + (y - y_zero_point) * y_scale) / 2^shift in int32, rounded half up, plus zero_point, clamped
to [low, high]. x and y have one shape.
"""

import torch

from spaces.prepared import Affine
from spaces.requantise import clamp_steps, common_shift, rounded

BITS = 21  # of the larger scale: 2 * 255 * 2^21 and the rounding fit 32 bits


def reference(x: torch.Tensor, y: torch.Tensor, x_zero_point: int, x_scale: int, y_zero_point: int, y_scale: int,
              shift: int, zero_point: int, low: float, high: float) -> torch.Tensor:
    total = (x.to(torch.int32) - x_zero_point) * x_scale + (y.to(torch.int32) - y_zero_point) * y_scale
    return torch.clamp(rounded(total, shift) + zero_point, int(low), int(high)).to(torch.uint8)


def arguments(x: Affine, y: Affine, out: Affine, low: float, high: float) -> dict[str, object]:
    """The op's other arguments for tensors of these types; [low, high] are real numbers."""
    (x_scale, y_scale), shift = common_shift([x.scale / out.scale, y.scale / out.scale], BITS)
    return {"x_zero_point": x.zero_point, "x_scale": x_scale, "y_zero_point": y.zero_point, "y_scale": y_scale, "shift": shift,
            "zero_point": out.zero_point, **clamp_steps(low, high, out.scale, out.zero_point)}


int8_add = torch.library.custom_op("netwright::int8_add", mutates_args=())(reference)


@int8_add.register_fake
def _shape(x, y, x_zero_point, x_scale, y_zero_point, y_scale, shift, zero_point, low, high):
    return torch.empty_like(x)
