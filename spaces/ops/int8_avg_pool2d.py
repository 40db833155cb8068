"""Average pool of uint8 images [N, C, H, W]: the sum over the window in int32, less the zero points, times its float32 scale,
divided by the result's times the number of taps, to the nearest whole number, halves to even, plus zero_point, clamped to 0..255.

Nothing is padded. Halves are frequent, since means of four or sixteen numbers mostly keep their scale: rounded up, they
would move every mean by the same side; and one product instead of the two steps would round others than ONNX's mean in floats.
"""

import torch

from spaces.prepared import Affine
from spaces.requantise import divided, float32, steps


def reference(x: torch.Tensor, kernel_size: list[int], stride: list[int], x_zero_point: int, scale: float,
              divisor: float, zero_point: int) -> torch.Tensor:
    windows = (x.to(torch.int64) - x_zero_point).unfold(2, kernel_size[0], stride[0]).unfold(3, kernel_size[1], stride[1])
    real = divided(windows.sum((4, 5)).to(torch.float32) * scale, divisor)
    return steps(torch.round(real) + zero_point)


def arguments(x: Affine, out: Affine, kernel_size: list[int], stride: list[int]) -> dict[str, object]:
    """The op's other arguments for tensors of these types."""
    taps = kernel_size[0] * kernel_size[1]
    return {"kernel_size": list(kernel_size), "stride": list(stride), "x_zero_point": x.zero_point,
            "scale": x.scale, "divisor": float32(out.scale * taps), "zero_point": out.zero_point}


def mean_of_image(x: torch.Tensor, scale: float, zero_point: int, out_scale: float, out_zero_point: int) -> torch.Tensor:
    """The op over whole images, whatever their size; the types are those of x and of the result."""
    sides, types = list(x.shape[2:]), (Affine(scale, zero_point), Affine(out_scale, out_zero_point))
    return torch.ops.netwright.int8_avg_pool2d(x, **arguments(*types, sides, sides))


int8_avg_pool2d = torch.library.custom_op("netwright::int8_avg_pool2d", mutates_args=())(reference)


@int8_avg_pool2d.register_fake
def _shape(x, kernel_size, stride, x_zero_point, scale, divisor, zero_point):
    sides = [(x.shape[2 + i] - kernel_size[i]) // stride[i] + 1 for i in (0, 1)]
    return x.new_empty([*x.shape[:2], *sides])
