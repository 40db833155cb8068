"""A uint8 tensor with another scale and zero point, such as the operands of a concatenation need (Jacob et al., 2018,
appendix A.3): (x - x_zero_point) * scale / 2^shift in int32, rounded half up, plus zero_point, clamped to [low, high].
"""

import torch

from spaces.prepared import Affine
from spaces.requantise import clamp_steps, common_shift, rounded

BITS = 22  # 255 * 2^22 and the rounding fit 32 bits


def reference(x: torch.Tensor, x_zero_point: int, scale: int, shift: int, zero_point: int, low: float,
              high: float) -> torch.Tensor:
    steps = rounded((x.to(torch.int32) - x_zero_point) * scale, shift) + zero_point
    return torch.clamp(steps, int(low), int(high)).to(torch.uint8)


def arguments(x: Affine, out: Affine, low: float, high: float) -> dict[str, object]:
    """The op's other arguments for tensors of these types; [low, high] are real numbers."""
    (scale,), shift = common_shift([x.scale / out.scale], BITS)
    return {"x_zero_point": x.zero_point, "scale": scale, "shift": shift, "zero_point": out.zero_point,
            **clamp_steps(low, high, out.scale, out.zero_point)}


int8_rescale = torch.library.custom_op("netwright::int8_rescale", mutates_args=())(reference)


@int8_rescale.register_fake
def _shape(x, x_zero_point, scale, shift, zero_point, low, high):
    return torch.empty_like(x)
