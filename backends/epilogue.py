"""The last step of integer kernels: int32 sums to the next tensor's numbers, lane by lane, as the deployed ops define.

uint8 numbers are rounded by adding a number so large that no fraction is left, halves to even, as the processor adds. They are
clamped before that: the bounds are whole, so the result is the same, and the clamp keeps LLVM from fusing the product before it
with the sum after it, which would round once instead of twice.
"""

from math import inf

from backends.emit import cast, clamp, constant

# Float32 numbers from 2^23 to 2^24 are whole: this one and a number of less than 2^22 have the sum of both, in these bits.
ROUNDING, ROUNDING_BITS = 1.5 * 2**23, 0x4B400000
BYTES = (0.0, 255.0)


def integer_epilogue(total, scale, workload, lanes: int):
    """`total` (int32), `scale` (float32): values of `lanes` lanes; returns uint8 or float32 as the workload's result is."""
    real, bounds = cast(total, "float32", lanes) * scale, (workload["low"], workload["high"])
    if workload.out.dtype == "float32":
        return clamp(real, *bounds, "float32", lanes)
    return nearest_steps(real, workload["out_zero_point"], lanes, bounds)


def nearest_steps(real, zero_point: int, lanes: int, bounds: tuple[float, float] = BYTES):
    """uint8 of float32 numbers: the nearest whole ones, plus the zero point, within the bounds."""
    return cast(whole_steps(real, zero_point, lanes, bounds), "uint8", lanes)


def whole_steps(real, zero_point: int, lanes: int, bounds: tuple[float, float] = BYTES):
    """The same as int32."""
    from tvm import tirx

    low, high = (bound - zero_point for bound in bounds)
    rounded = clamp(real, low, high, "float32", lanes) + constant(ROUNDING, "float32", lanes)
    bits = tirx.reinterpret("int32" if lanes == 1 else f"int32x{lanes}", rounded)
    return bits + constant(zero_point - ROUNDING_BITS, "int32", lanes)


def nearest_of_sum(product, zero_point: int, lanes: int):
    """uint8 of float32(product + zero point), rounded as one number."""
    from tvm import tirx

    above = tirx.max(product, constant(-float(zero_point), "float32", lanes))
    return nearest_steps(above + constant(float(zero_point), "float32", lanes), 0, lanes, (-inf, BYTES[1]))


def real_steps(x, zero_point: int, lanes: int):
    """float32 x - zero_point of uint8 numbers."""
    return cast(cast(x, "int32", lanes) - constant(zero_point, "int32", lanes), "float32", lanes)
