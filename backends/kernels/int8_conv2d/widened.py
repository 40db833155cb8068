"""Convolution in 8-bit integers on any processor: bytes are widened to int32 and multiplied there.
"""

from backends.arithmetic import WIDENED
from backends.convolution import convolution, convolution_options
from backends.dot import dot_of

PRIORITY = 1


def serves(workload, target) -> bool:
    """Targets without a dot product of bytes."""
    return dot_of(target) is None


def options(workload, target) -> list[dict]:
    """See `product_options`."""
    return convolution_options(workload, target, WIDENED)


def lower(workload, target, option):
    """See `convolution`."""
    return convolution(workload, target, option, WIDENED)
