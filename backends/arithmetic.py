"""The arithmetic of convolutions and dense layers: float32, bytes by VNNI, bytes widened to int32."""

from backends.convolution import Arithmetic
from backends.emit import cast
from backends.packing import tiled, tiled_words
from backends.vnni import dot_step
from backends.window import columns, words


def _multiply_add(sums, x, weight, lanes: int):
    return sums + x * weight


def _depth(window) -> int:
    return window.depth


def _words_depth(window) -> int:
    return window.kernel[0] * window.kernel[1] * -(-window.group_inputs // 4)


def _widen(value, lanes: int):
    return cast(value, "int32", lanes)


def _columns_of(dtype: str):
    return lambda image, window, group, lanes: columns(image, window, group, dtype, lanes)


FLOAT = Arithmetic(_columns_of("float32"), "float32", _depth, tiled, "float32", _multiply_add)
WIDENED = Arithmetic(_columns_of("uint8"), "uint8", _depth, tiled, "int32", _multiply_add, _widen)
VNNI = Arithmetic(words, "int32", _words_depth, tiled_words, "int32", dot_step)


def has_vnni(target) -> bool:
    """Whether the target multiplies bytes in vectors of 512, 256 and 128 bits (AVX-512 VNNI and VL)."""
    return target.lanes == 16 and {"avx512vnni", "avx512vl"} <= target.features
