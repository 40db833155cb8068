"""Dense layer in 8-bit integers by dot products of bytes: four inputs in each 32-bit lane, multiplied by four signed weights and
added to an int32 without saturation (`backends/dot.py`).
"""

from backends.arithmetic import dots
from backends.convolution import convolution, convolution_options
from backends.dot import dot_of

PRIORITY = 0


def serves(workload, target) -> bool:
    """Targets with a dot product of bytes."""
    return dot_of(target) is not None


def options(workload, target) -> list[dict]:
    """See `product_options`."""
    return convolution_options(workload, target, dots(target))


def lower(workload, target, option):
    """See `convolution`."""
    return convolution(workload, target, option, dots(target))
