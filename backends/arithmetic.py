"""The arithmetic of convolutions and dense layers: float32, bytes by VNNI, bytes widened to int32, packed signs."""

from backends.emit import cast, load
from backends.packing import packed_rows, packed_words
from backends.product import Arithmetic
from backends.vnni import dot_step


def _multiply_add(sums, x, weight, lanes: int):
    return sums + x * weight


def _widened(buffer, index, lanes: int = 1):
    return cast(load(buffer, index, lanes), "int32", lanes)


def _word(buffer, index):
    from tvm import tirx

    return tirx.reinterpret("int32", load(buffer, index, 4))


def _count_differences(sums, x, weight, lanes: int):
    from tvm import tirx

    return sums + tirx.popcount(x ^ weight)


FLOAT = Arithmetic(1, "float32", load, load, _multiply_add, packed_rows)
WIDENED = Arithmetic(1, "int32", _widened, _widened, _multiply_add, packed_rows)
VNNI = Arithmetic(4, "int32", _word, load, dot_step, packed_words)
BITS = Arithmetic(4, "int32", _word, load, _count_differences, packed_words)


def has_vnni(target) -> bool:
    """Whether the target multiplies bytes in vectors of 512, 256 and 128 bits (AVX-512 VNNI and VL)."""
    return target.lanes == 16 and {"avx512vnni", "avx512vl"} <= target.features
