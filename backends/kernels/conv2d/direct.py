"""Convolution in float32 as a register-tiled product, straight from the image: any geometry.
"""

from backends.arithmetic import FLOAT
from backends.convolution import convolution, convolution_options
from backends.depthwise import is_depthwise

PRIORITY = 1


def serves(workload, target) -> bool:
    """Float32, but for depthwise convolutions, whose groups are narrower than any vector."""
    return workload["x"].dtype == "float32" and not is_depthwise(workload)


def options(workload, target) -> list[dict]:
    """See `product_options`."""
    return convolution_options(workload, target, FLOAT)


def lower(workload, target, option):
    """See `convolution`."""
    return convolution(workload, target, option, FLOAT)
