"""From int32 sums to the next tensor's numbers (Jacob et al., 2018, equation 4, with the multiplier in float32).

A sum s of a channel becomes round(float32(s) * m) + zero point, clamped, with m = input scale * weight scale / output scale;
halves go to the even number. Every step is one IEEE operation, alike on every processor, and the numbers are those of ONNX
Runtime's kernels. Where the next layer wants floats, the sums are only multiplied.
"""

import math

import torch

SMALLEST = float(torch.finfo(torch.float32).tiny)


def epilogue(sums: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor, low: float, high: float,
             out_zero_point: int | None) -> torch.Tensor:
    """int32 sums + bias, times float32 `scale`: to uint8 about `out_zero_point`, to float32 if that is None; clamped to [low, high]."""
    real = (sums + bias).to(torch.float32) * scale
    return torch.clamp(real, low, high) if out_zero_point is None else steps(torch.round(real) + out_zero_point, low, high)


def epilogue_dtype(out_zero_point: int | None) -> torch.dtype:
    """The type that `epilogue` returns."""
    return torch.float32 if out_zero_point is None else torch.uint8


def steps(whole: torch.Tensor, low: float = 0, high: float = 255) -> torch.Tensor:
    """uint8 of whole float32 numbers within [low, high]."""
    return torch.clamp(whole, low, high).to(torch.uint8)


def divided(x: torch.Tensor, divisor: float) -> torch.Tensor:
    """x / divisor, rounded once. By a number, torch on GPUs multiplies by its inverse."""
    return x / x.new_full((1,), divisor)


def float32(value: float) -> float:
    """The nearest float32."""
    return float(torch.tensor(value, dtype=torch.float32))


def ratio(scale: float, out_scale: float) -> float:
    """scale / out_scale, rounded to float32. ValueError if no normal float32 is near it."""
    found = float32(float32(scale) / float32(out_scale))
    if not SMALLEST <= found < math.inf:
        raise ValueError(f"a scale is {scale / out_scale:.3g} times the one it becomes, which float32 cannot hold")
    return found


def clamp_steps(low: float, high: float, scale: float | tuple[float, ...], zero_point: int) -> dict[str, float]:
    """The bounds of real numbers as those of the uint8 steps that stand for them. ValueError if they differ by channel."""
    scales = scale if isinstance(scale, tuple) else (scale,)
    found = {tuple(_step(bound, each, zero_point) for bound in (low, high)) for each in scales}
    if len(found) > 1:
        raise ValueError(f"an activation clamps to [{low:g}, {high:g}], which are other steps in each of {len(scales)} channels")
    return dict(zip(("low", "high"), found.pop()))


def _step(bound: float, scale: float, zero_point: int) -> float:
    return float(min(255, max(0, zero_point + round(max(-1e6, min(1e6, bound / scale))))))
