"""The arithmetic of convolutions and dense layers: float32, dot products of bytes, bytes widened to int32, packed signs."""

from dataclasses import replace

from backends.dot import BYTES, SIGN_BITS, dot_of
from backends.emit import cast, constant, load
from backends.packing import packed_rows, packed_rows_of_words, packed_words
from backends.product import Arithmetic


def _multiply_add(sums, x, weight, lanes: int):
    return sums + x * weight


def _loaded(buffer, index, lanes: int = 1):
    return [load(buffer, index, lanes)]


def _widened(buffer, index, lanes: int = 1):
    return [cast(load(buffer, index, lanes), "int32", lanes)]


def _word(buffer, index):
    return [word(buffer, index)]


def _signed_word(buffer, index):
    return [word(buffer, index) ^ constant(SIGN_BITS, "int32")]


def word(buffer, index):
    """Four bytes from `index` on, as an int32."""
    from tvm import tirx

    return tirx.reinterpret("int32", load(buffer, index, 4))


def _count_differences(sums, x, weight, lanes: int):
    from tvm import tirx

    return sums + tirx.popcount(x ^ weight)


FLOAT = Arithmetic(1, "float32", _loaded, _loaded, _multiply_add, packed_rows)
WIDENED = Arithmetic(1, "int32", _widened, _widened, _multiply_add, packed_rows)
BITS = Arithmetic(4, "int32", _word, _loaded, _count_differences, packed_words)


def dots(target) -> Arithmetic:
    """Four bytes at a time by the target's dot product."""
    dot = dot_of(target)
    return Arithmetic(BYTES, "int32", _signed_word if dot.offset else _word, _loaded, dot.step, packed_words, offset=dot.offset)


def dots_of_rows(target) -> Arithmetic:
    """The same along the rows of a kernel and its channels."""
    return replace(dots(target), pack=packed_rows_of_words, merged=True)
