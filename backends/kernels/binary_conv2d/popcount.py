"""Convolution of signs by signs: 32 channels of a pixel in a word, its differences from as many weights counted in each lane.
"""

from backends.arithmetic import BITS
from backends.binary import binary_convolution, binary_inputs
from backends.convolution import convolution_options

PRIORITY = 0
inputs = binary_inputs


def serves(workload, target) -> bool:
    """Every workload."""
    return True


def options(workload, target) -> list[dict]:
    """See `product_options`."""
    return convolution_options(workload, target, BITS)


def lower(workload, target, option):
    """See `binary_convolution`."""
    return binary_convolution(workload, target, option)
