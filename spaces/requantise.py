"""From int32 sums to the next tensor's numbers, in integers (Jacob et al., 2018, section 2.2).

A real multiplier m = input scale * weight scale / output scale of each channel becomes an integer, and all channels share
one shift: m ~ scale / 2^shift; the product is taken in 64 bits and rounded half up. Where the next layer wants floats,
the sums are multiplied once by a float32 scale instead. Products and means of bytes, which 24 bits hold, are rounded from float32.
"""

import math

import torch

MOST_SHIFT = 62


def epilogue(sums: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor, shift: int, out_zero_point: int, low: float,
             high: float) -> torch.Tensor:
    """int32 sums + bias to uint8 if `scale` is int32, to float32 if it is float32, clamped to [low, high]."""
    total = sums + bias
    if scale.dtype == torch.float32:
        return torch.clamp(total.to(torch.float32) * scale, low, high)
    return torch.clamp(rounded(total.to(torch.int64) * scale, shift) + out_zero_point, int(low), int(high)).to(torch.uint8)


def rounded(product: torch.Tensor, shift: int) -> torch.Tensor:
    """Integers / 2^shift, rounded half up."""
    return (product + (1 << (shift - 1))) >> shift


def nearest_steps(total: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    """uint8 of whole numbers: float32(total) * scale (see `float_scale`) to the nearest step, a half to the even one, plus
    zero_point. Totals below 2^24 are exact in float32, and one product rounds alike on every processor."""
    return torch.clamp(torch.round(total.to(torch.float32) * scale) + zero_point, 0, 255).to(torch.uint8)


def float_scale(multiplier: float, most: int) -> float:
    """The nearest float32 of a positive multiplier of totals up to `most`. ValueError if steps could reach 2^22: kernels round by
    adding a number of that size."""
    if multiplier * most >= 2**22:
        raise ValueError(f"steps could reach {multiplier * most:.3g}, past 2^22; the result's scale is too small for its operands")
    return float(torch.tensor(multiplier, dtype=torch.float32))


def epilogue_dtype(scale: torch.Tensor) -> torch.dtype:
    """The type that `epilogue` returns for this scale."""
    return torch.float32 if scale.dtype == torch.float32 else torch.uint8


def fixed_point(multiplier: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Positive real multipliers (float64, below 2^30) as int32 scales and their shift: m ~ scale / 2^shift.

    The largest has 31 significant bits (unless it is below 2^-31), one that is 2^k times smaller 31 - k. A result below
    2^8 is then wrong by less than 2^(k - 23), since sums are as much larger as the multiplier is smaller.
    """
    _, exponent = torch.frexp(multiplier.max())
    shift = min(MOST_SHIFT, max(1, 31 - int(exponent)))
    scale = torch.round(multiplier * 2.0**shift)
    return torch.clamp(scale, max=2**31 - 1).to(torch.int32), shift


def common_shift(multipliers: list[float], bits: int) -> tuple[list[int], int]:
    """Positive real multipliers as whole numbers of at most `bits` bits and their shift, 1 to 30: m ~ number / 2^shift.
    ValueError if the largest does not fit."""
    shift = min(30, bits - math.frexp(max(multipliers))[1])
    if shift < 1:
        raise ValueError(f"a scale is {max(multipliers):g} times the one it becomes; at most 2^{bits - 1} times is possible")
    return [min(2**bits - 1, round(multiplier * 2**shift)) for multiplier in multipliers], shift


def clamp_steps(low: float, high: float, scale: float, zero_point: int) -> dict[str, float]:
    """The bounds of real numbers as those of the uint8 steps that stand for them."""
    bounds = [zero_point + round(max(-1e6, min(1e6, bound / scale))) for bound in (low, high)]
    return dict(zip(("low", "high"), (float(min(255, max(0, bound))) for bound in bounds)))
