"""The last step of integer kernels: int32 sums to the next tensor's numbers, lane by lane.

The same arithmetic as the deployed ops define: total = sum + bias, then either
(total * scale + 2^(shift-1) >> shift) + out_zero_point in 64 bits, or float32(total) * scale.
"""

from backends.emit import cast, clamp, constant


def integer_epilogue(total, scale, shift, workload, lanes: int):
    """`total`, `scale`, `shift`: values of `lanes` lanes; returns uint8 or float32 as the workload's result is."""
    low, high = workload["low"], workload["high"]
    if workload.out.dtype == "float32":
        return clamp(cast(total, "float32", lanes) * scale, low, high, "float32", lanes)
    wide, shift = cast(total, "int64", lanes), cast(shift, "int64", lanes)
    half = constant(1, "int64", lanes) << (shift - constant(1, "int64", lanes))
    steps = (wide * cast(scale, "int64", lanes) + half) >> shift
    steps = steps + constant(workload["out_zero_point"], "int64", lanes)
    return cast(clamp(steps, int(low), int(high), "int64", lanes), "uint8", lanes)
