"""Unsigned 8 bit to float: (x - zero_point) * scale, in float32. `scale` is a float32 value."""

import torch


def reference(x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    return (x.to(torch.int32) - zero_point).to(torch.float32) * scale


dequantize = torch.library.custom_op("netwright::dequantize", mutates_args=())(reference)


@dequantize.register_fake
def _shape(x, scale, zero_point):
    return torch.empty_like(x, dtype=torch.float32)
