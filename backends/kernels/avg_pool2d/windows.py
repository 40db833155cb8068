"""Average pooling of float32 images. A window that hangs over the edge averages what it covers (ceil mode)."""

from backends.emit import cast
from backends.pooling import pool_lowering
from backends.workload import Lowering

PRIORITY = 0


def serves(workload, target) -> bool:
    """Float32 images without padding."""
    return workload.out.dtype == "float32" and not any(dict(workload.arguments).get("padding") or [0])


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def lower(workload, target, option) -> Lowering:
    """The kernel of (x, out): the sum over the pixels that exist, divided by their number."""
    def mean(total, size, lanes):
        return total / cast(size, "float32", lanes)
    return pool_lowering(workload, target, 0.0, lambda a, b: a + b, mean)
