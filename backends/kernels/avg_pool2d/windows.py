"""Average pooling of float32 images."""

from backends.emit import cast, constant, splat
from backends.pooling import pool, pool_options

PRIORITY = 0
options = pool_options


def serves(workload, target) -> bool:
    """Float32 images. Of the pixels outside, torch counts the padding but not what ceil mode adds: both at once are
    not served."""
    named = dict(workload.arguments)
    both = any(named.get("padding") or [0]) and named.get("count_include_pad", True) and named.get("ceil_mode")
    return workload.out.dtype == "float32" and not both and named.get("divisor_override") is None


def lower(workload, target, option):
    """The sum over the pixels that are in the image, divided by their number, or by the kernel's size if padding counts."""
    named = dict(workload.arguments)
    padded = any(named.get("padding") or [0]) and named.get("count_include_pad", True)
    height, width = workload["kernel_size"] * (2 // len(workload["kernel_size"]))

    def mean(total, inside, lanes):
        if padded or isinstance(inside, int):
            return total * constant(1.0 / (height * width if padded else inside), "float32", lanes)
        return total * splat(constant(1.0, "float32") / cast(inside, "float32"), lanes)
    return pool(workload, target, option, lambda lanes: constant(0.0, "float32", lanes), lambda total, x, lanes: total + x, mean)
