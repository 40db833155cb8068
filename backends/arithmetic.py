"""The arithmetic of convolutions and dense layers: float32, bytes by VNNI, bytes widened to int32."""

from backends.emit import cast, load
from backends.packing import packed_rows, packed_rows_of_words, packed_words
from backends.product import Arithmetic
from backends.vnni import dot_step


def _multiply_add(sums, x, weight, lanes: int):
    return sums + x * weight


def _loaded(buffer, index, lanes: int = 1):
    return [load(buffer, index, lanes)]


def _widened(buffer, index, lanes: int = 1):
    return [cast(load(buffer, index, lanes), "int32", lanes)]


def _word(buffer, index):
    return [word(buffer, index)]


def word(buffer, index):
    """Four bytes from `index` on, as an int32."""
    from tvm import tirx

    return tirx.reinterpret("int32", load(buffer, index, 4))


FLOAT = Arithmetic(1, "float32", _loaded, _loaded, _multiply_add, packed_rows)
WIDENED = Arithmetic(1, "int32", _widened, _widened, _multiply_add, packed_rows)
VNNI = Arithmetic(4, "int32", _word, _loaded, dot_step, packed_words)
VNNI_ROWS = Arithmetic(4, "int32", _word, _loaded, dot_step, packed_rows_of_words, merged=True)


def has_vnni(target) -> bool:
    """Whether the target multiplies bytes in vectors of 512, 256 and 128 bits (AVX-512 VNNI and VL)."""
    return target.lanes == 16 and {"avx512vnni", "avx512vl"} <= target.features
