"""Product of two uint8 tensors as a third: a gate on channels, as in squeeze-and-excitation.

float32((x - x_zero_point) * (y - y_zero_point)) * scale, then + zero_point, each rounded to float32, to the nearest whole number,
halves to even, clamped to 0..255. y has x's shape, or [N, C, 1, 1].
"""

import torch

from spaces.prepared import Affine
from spaces.requantise import float32, ratio, steps


def reference(x: torch.Tensor, y: torch.Tensor, x_zero_point: int, y_zero_point: int, scale: float,
              zero_point: int) -> torch.Tensor:
    product = (x.to(torch.float32) - x_zero_point) * (y.to(torch.float32) - y_zero_point)
    return steps(torch.round(product * scale + zero_point))


def arguments(x: Affine, y: Affine, out: Affine) -> dict[str, object]:
    """The op's other arguments for tensors of these types."""
    return {"x_zero_point": x.zero_point, "y_zero_point": y.zero_point, "scale": ratio(float32(x.scale * y.scale), out.scale),
            "zero_point": out.zero_point}


int8_mul = torch.library.custom_op("netwright::int8_mul", mutates_args=())(reference)


@int8_mul.register_fake
def _shape(x, y, x_zero_point, y_zero_point, scale, zero_point):
    return torch.empty_like(x)
