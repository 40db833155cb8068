"""From int32 sums to the next layer's numbers, in integers (Jacob et al., 2018, section 2.2).

A real multiplier m = input scale * weight scale / output scale becomes an integer and a shift,
m ~ scale / 2^shift; the product is taken in 64 bits and rounded half up. Where the next layer wants
floats, the sums are multiplied once by a float32 scale instead.
"""

import torch

MOST_SHIFT = 62


def epilogue(sums: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor,
             out_zero_point: int, low: float, high: float) -> torch.Tensor:
    """int32 sums + bias to uint8 if `scale` is int32, to float32 if it is float32, clamped to [low, high]."""
    total = sums + bias
    if scale.dtype == torch.float32:
        return torch.clamp(total.to(torch.float32) * scale, low, high)
    half = torch.ones_like(shift, dtype=torch.int64) << (shift.to(torch.int64) - 1)
    steps = ((total.to(torch.int64) * scale + half) >> shift.to(torch.int64)) + out_zero_point
    return torch.clamp(steps, int(low), int(high)).to(torch.uint8)


def epilogue_dtype(scale: torch.Tensor) -> torch.dtype:
    """The type that `epilogue` returns for this scale."""
    return torch.float32 if scale.dtype == torch.float32 else torch.uint8


def fixed_point(multiplier: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positive real multipliers (float64, below 2^30) as int32 (scale, shift): m ~ scale / 2^shift, with
    31 significant bits unless the multiplier is below 2^-31."""
    _, exponent = torch.frexp(multiplier)
    shift = torch.clamp(31 - exponent, 1, MOST_SHIFT).to(torch.int32)
    scale = torch.round(multiplier * 2.0 ** shift.to(torch.float64))
    return torch.clamp(scale, max=2**31 - 1).to(torch.int32), shift
