"""Weights as kernels want them, computed once when a network is loaded."""

from backends.emit import constant, function, load, loop, store
from backends.window import pack_bytes
from backends.workload import Packed, Tensor


def tiled(weight: Tensor, rows: int, groups: int = 1) -> Packed:
    """[outputs, depth] as [groups, blocks, depth, rows]: `rows` outputs side by side, zeros past the last."""
    depth = weight.size // weight.shape[0]

    def fill(stored, put):
        with loop(weight.shape[0]) as output, loop(depth) as k:
            put(output, k, load(stored, output * depth + k))
    return _blocks(weight, weight.dtype, rows, groups, depth, fill)


def tiled_words(weight: Tensor, rows: int, groups: int = 1) -> Packed:
    """int8 [outputs, channels, kernel] as int32 words of four channels: [groups, blocks, kernel, channels / 4, rows]."""
    channels = weight.shape[1]
    kernel, quads = weight.size // (weight.shape[0] * channels), -(-channels // 4)

    def fill(stored, put):
        for count, first, used in ((channels // 4, 0, 4), (1 if channels % 4 else 0, channels // 4, channels % 4)):
            if count:
                with loop(weight.shape[0]) as output, loop(kernel) as tap, loop(count) as q:
                    begin = (output * channels + (first + q) * 4) * kernel + tap
                    word = pack_bytes([load(stored, begin + i * kernel) for i in range(used)], 1)
                    put(output, tap * quads + first + q, word)
    return _blocks(weight, "int32", rows, groups, kernel * quads, fill)


def _blocks(weight: Tensor, dtype: str, rows: int, groups: int, depth: int, fill) -> Packed:
    outputs = weight.shape[0] // groups
    blocks = -(-outputs // rows)
    tensor = Tensor((groups * blocks * depth * rows,), dtype)

    def body(stored, packed):
        def put(output, k, value):
            inside = output % outputs
            store(packed, value, ((output // outputs * blocks + inside // rows) * depth + k) * rows + inside % rows)
        with loop(tensor.size) as i:
            store(packed, constant(0, dtype), i)
        fill(stored, put)
    return Packed(function([weight, tensor], body), tensor)
