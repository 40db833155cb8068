"""Dense layer in 8-bit integers by the x86 dot product of bytes (AVX-512 VNNI).

Four channels of a pixel stand in one 32-bit word; `vpdpbusd` multiplies 4 unsigned by 4 signed bytes in
every lane and adds them to an int32, without saturation (Intel SDM, VPDPBUSD).
"""

from backends.convolution import Arithmetic, product_lowering, tile_options
from backends.packing import tiled_words
from backends.vnni import dot_step
from backends.window import words

PRIORITY = 0
ARITHMETIC = Arithmetic(words, "int32", lambda window: window.kernel[0] * window.kernel[1] * -(-window.group_inputs // 4),
                        tiled_words, "int32", dot_step)


def serves(workload, target) -> bool:
    """On targets with AVX-512 VNNI and its vectors of 256 and 128 bits."""
    return target.lanes == 16 and {"avx512vnni", "avx512vl"} <= target.features


def options(workload, target) -> list[dict]:
    """See `tile_options`."""
    return tile_options(workload, target)


def lower(workload, target, option):
    """The kernel of (x, packed weight, bias, scale, shift, out)."""
    return product_lowering(workload, target, option, ARITHMETIC)
