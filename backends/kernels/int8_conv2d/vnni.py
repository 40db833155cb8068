"""Convolution in 8-bit integers by the x86 dot product of bytes: four channels of a pixel in each 32-bit lane,
multiplied by four signed weights and added to an int32 without saturation (Intel SDM, VPDPBUSD).
"""

from backends.arithmetic import VNNI, has_vnni
from backends.convolution import product_lowering, tile_options

PRIORITY = 0
options = tile_options


def serves(workload, target) -> bool:
    """Targets with AVX-512 VNNI."""
    return has_vnni(target)


def lower(workload, target, option):
    """See `product_lowering`."""
    return product_lowering(workload, target, option, VNNI)
