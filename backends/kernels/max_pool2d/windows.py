"""Max-pooling of float32 or uint8 images: the maximum over what the window covers of the image."""

from backends.emit import constant
from backends.pooling import pool, pool_options

PRIORITY = 0
LEAST = {"float32": float("-inf"), "uint8": 0}
options = pool_options


def serves(workload, target) -> bool:
    """Every float32 or uint8 image."""
    return workload.out.dtype in LEAST and len(workload.out.shape) == 4


def lower(workload, target, option):
    """See `pool`."""
    from tvm import tirx

    dtype = workload.out.dtype
    return pool(workload, target, option, lambda lanes: constant(LEAST[dtype], dtype, lanes),
                lambda total, x, lanes: tirx.max(total, x),
                lambda total, inside, lanes: total)
