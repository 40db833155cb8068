"""The last step of integer kernels: int32 sums to the next tensor's numbers, lane by lane.

The same arithmetic as the deployed ops define: (total * scale + 2^(shift-1) >> shift) + out_zero_point in 64 bits, or
float32(total) * scale; products and means of bytes are rounded from float32. With a shift of 33 and more, the upper half of
the product is enough: floor((floor(p / 2^32) + 2^(shift-33)) / 2^(shift-32)) is the same number.
"""

from backends.emit import bind, cast, clamp, constant

WIDE = 8
# Shifts for which the upper half and what is added to it fit 32 bits.
UPPER_HALF = range(33, 55)
# Float32 numbers from 2^23 to 2^24 are whole: this one and a number of less than 2^22 have the sum of both, in these bits.
ROUNDING, ROUNDING_BITS = 1.5 * 2**23, 0x4B400000


def integer_epilogue(total, scale, workload, lanes: int):
    """`total`, `scale`: values of `lanes` lanes; returns uint8 or float32 as the workload's result is."""
    if workload.out.dtype == "float32":
        return clamp(cast(total, "float32", lanes) * scale, workload["low"], workload["high"], "float32", lanes)
    return requantised(total, scale, workload["shift"], workload["out_zero_point"], (workload["low"], workload["high"]), lanes)


def requantised(total, scale, shift: int, zero_point: int, bounds: tuple[float, float], lanes: int):
    """uint8 of int32 totals and scales."""
    if shift in UPPER_HALF:
        dtype, steps = "int32", upper_steps(total, scale, shift, zero_point, lanes)
    else:
        dtype, product = "int64", cast(total, "int64", lanes) * cast(scale, "int64", lanes)
        # A zero point times 2^shift may be past 64 bits: it is added to the rounded steps.
        steps = _rounded(product, shift, 0, dtype, lanes) + constant(zero_point, dtype, lanes)
    return cast(clamp(steps, int(bounds[0]), int(bounds[1]), dtype, lanes), "uint8", lanes)


def nearest_steps(total, scale: float, zero_point: int, lanes: int):
    """uint8 of float32(total) * scale to the nearest step, a half to the even one, plus the zero point. Adding ROUNDING rounds.
    The maximum stands between product and sum so that LLVM does not fuse them, which would round once instead of twice."""
    from tvm import tirx

    product = cast(total, "float32", lanes) * constant(scale, "float32", lanes)
    real = tirx.max(product, constant(0.0 - zero_point, "float32", lanes)) + constant(ROUNDING, "float32", lanes)
    steps = tirx.reinterpret("int32" if lanes == 1 else f"int32x{lanes}", real) + constant(zero_point - ROUNDING_BITS, "int32", lanes)
    return cast(tirx.min(steps, constant(255, "int32", lanes)), "uint8", lanes)


def upper_steps(total, scale, shift: int, zero_point: int, lanes: int):
    """int32 steps, not clamped yet, for shifts in UPPER_HALF."""
    return _rounded(upper_half(total, scale, lanes), shift - 32, zero_point, "int32", lanes)


def _rounded(product, shift: int, zero_point: int, dtype: str, lanes: int):
    """product / 2^shift, rounded half up, plus the zero point."""
    offset = (1 << (shift - 1)) + (zero_point << shift)
    return (product + constant(offset, dtype, lanes)) >> constant(shift, dtype, lanes)


def upper_half(x, y, lanes: int):
    """The upper 32 bits of the products of int32 vectors."""
    if lanes < WIDE:
        wide = cast(x, "int64", lanes) * cast(y, "int64", lanes)
        return cast(wide >> constant(32, "int64", lanes), "int32", lanes)
    return _by_pairs(x, y, lanes)


def _by_pairs(x, y, lanes: int):
    """The same on pairs of lanes as they lie, without widening: x86 multiplies the even lanes (VPMULDQ), then the odd
    ones, and LLVM finds no such code in the plain form."""
    from tvm import tirx

    half = lanes // 2
    x, y = (bind(tirx.reinterpret(f"int64x{half}", value)) for value in (x, y))
    upper = constant(32, "int64", half)
    even = ((x << upper) >> upper) * ((y << upper) >> upper)
    odd = (x >> upper) * (y >> upper)
    low, high = constant(2**32 - 1, "int64", half), constant(-(2**32), "int64", half)
    return tirx.reinterpret(f"int32x{lanes}", ((even >> upper) & low) | (odd & high))


def steps_from(x, zero_point: int, lanes: int, scale: int = 1):
    """int32 (x - zero_point) * scale of uint8 numbers."""
    return cast(x, "int32", lanes) * constant(scale, "int32", lanes) - constant(zero_point * scale, "int32", lanes)


def shifted(total, shift: int, zero_point: int, bounds: tuple[float, float], lanes: int):
    """uint8 of int32 totals / 2^shift, rounded half up, plus the zero point, within the bounds."""
    steps = (total + constant(1 << (shift - 1), "int32", lanes)) >> constant(shift, "int32", lanes)
    steps = clamp(steps + constant(zero_point, "int32", lanes), int(bounds[0]), int(bounds[1]), "int32", lanes)
    return cast(steps, "uint8", lanes)
