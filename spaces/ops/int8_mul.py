"""Product of two uint8 tensors as a third: a gate on channels, as in squeeze-and-excitation.

(x - x_zero_point) * (y - y_zero_point) * scale / 2^shift, rounded half up, plus zero_point, clamped to 0..255. The product with
scale is taken in 64 bits. y has x's shape, or [N, C, 1, 1].
"""

import torch

from spaces.prepared import Affine
from spaces.requantise import MOST_SHIFT, common_shift, rounded


def reference(x: torch.Tensor, y: torch.Tensor, x_zero_point: int, y_zero_point: int, scale: int, shift: int,
              zero_point: int) -> torch.Tensor:
    product = (x.to(torch.int64) - x_zero_point) * (y.to(torch.int64) - y_zero_point)
    return torch.clamp(rounded(product * scale, shift) + zero_point, 0, 255).to(torch.uint8)


def arguments(x: Affine, y: Affine, out: Affine) -> dict[str, object]:
    """The op's other arguments for tensors of these types."""
    (scale,), shift = common_shift([x.scale * y.scale / out.scale], 31, MOST_SHIFT)
    return {"x_zero_point": x.zero_point, "y_zero_point": y.zero_point, "scale": scale, "shift": shift,
            "zero_point": out.zero_point}


int8_mul = torch.library.custom_op("netwright::int8_mul", mutates_args=())(reference)


@int8_mul.register_fake
def _shape(x, y, x_zero_point, y_zero_point, scale, shift, zero_point):
    return torch.empty_like(x)
