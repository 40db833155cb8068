"""Max-pooling of float32 or uint8 images: a border of the least value, then the maximum over the window."""

from backends.pooling import pool_lowering
from backends.workload import Lowering

PRIORITY = 0
LEAST = {"float32": float("-inf"), "uint8": 0}


def serves(workload, target) -> bool:
    """Every float32 or uint8 image."""
    return workload.out.dtype in LEAST


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def lower(workload, target, option) -> Lowering:
    """The kernel of (x, out)."""
    from tvm import tirx

    return pool_lowering(workload, target, LEAST[workload.out.dtype], tirx.max, lambda total, size, lanes: total)
