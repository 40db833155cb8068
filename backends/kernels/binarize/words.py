"""Numbers to packed signs: vectors are compared with the threshold, and the bits of 32 channels gathered in a word."""

from backends.emit import bind, cast, constant, load, loop, segments
from backends.nest import nest, shared
from backends.view import View, sides
from backends.workload import Lowering, one_way

PRIORITY = 0
WORD = 32
options = one_way


def serves(workload, target) -> bool:
    """Images or vectors, float32 or uint8."""
    return len(workload.out.shape) in (2, 4)


def lower(workload, target, option) -> Lowering:
    """Pixel by pixel: whole words, then the bytes of what is left."""
    tensor, threshold = workload["x"], workload["threshold"]
    batch, channels, height, width = sides(tensor)

    def body(buffers, sink):
        x = View.of(buffers["x"], tensor)
        with shared(target.threads_for(tensor.size // target.lanes)) as share:
            with nest({"channels": batch, "rows": height, "columns": width}, "channels", share) as index:
                n, y, column = index["channels"], index["rows"], index["columns"]
                if channels >= WORD:
                    with loop(channels // WORD) as i:
                        word = _word(x, x.at(n, y, column, i * WORD), WORD, threshold, target.lanes)
                        _put(sink, word, 4, n, y, column, i * 4)
                rest = channels % WORD
                if rest:
                    word = _word(x, x.at(n, y, column, channels - rest), rest, threshold, target.lanes)
                    for i in range(-(-rest // 8)):
                        _put(sink, word >> (8 * i), 1, n, y, column, channels // WORD * 4 + i)
    return Lowering(body)


def _put(sink, word, lanes: int, n, y, x, byte) -> None:
    from tvm import tirx

    value = tirx.reinterpret("uint8x4", word) if lanes == 4 else cast(word & 255, "uint8")
    sink.put(value, n, y, x, byte, lanes)


def _word(x: View, begin, count: int, threshold: float, lanes: int):
    """The bits of `count` channels, the first lowest."""
    word = constant(0, "int32")
    for part in segments(count, lanes):
        bits = None
        for i in range(part.count):
            first = part.start + i * part.lanes
            values = cast(load(x.buffer, begin + first * x.channel, part.lanes, x.channel), "float32", part.lanes)
            found = _bits(values, first, threshold, part.lanes)
            bits = found if bits is None else bits | found
        word = word | _any(bits, part.lanes)
    return bind(word)


def _bits(values, first: int, threshold: float, lanes: int):
    """In each lane its own bit, where the value reaches the threshold."""
    from tvm import tirx

    one, place = constant(1, "int32", lanes), constant(first, "int32", lanes)
    if lanes > 1:
        place = place + tirx.Ramp(tirx.const(0, "int32"), 1, lanes)
    return tirx.Select(values >= constant(threshold, "float32", lanes), one << place, constant(0, "int32", lanes))


def _any(bits, lanes: int):
    """The bits of all lanes in one number."""
    from tvm.tirx.script.builder import ir as T

    if lanes == 1:
        return bits
    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id("llvm.vector.reduce.or"), bits, dtype="int32")
