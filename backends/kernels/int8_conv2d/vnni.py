"""Convolution in 8-bit integers by the x86 dot product of bytes: four channels of a pixel in each 32-bit lane,
multiplied by four signed weights and added to an int32 without saturation (Intel SDM, VPDPBUSD).
"""

from backends.arithmetic import VNNI, has_vnni
from backends.convolution import convolution, convolution_options
from backends.depthwise import is_depthwise

PRIORITY = 0


def serves(workload, target) -> bool:
    """Targets with AVX-512 VNNI, but for depthwise convolutions, whose groups are narrower than any vector."""
    return has_vnni(target) and not is_depthwise(workload)


def options(workload, target) -> list[dict]:
    """See `product_options`."""
    return convolution_options(workload, target, VNNI)


def lower(workload, target, option):
    """See `convolution`."""
    return convolution(workload, target, option, VNNI)
