"""Weights as products want them, computed once when a network is loaded: block by block, a row of the block's
vectors for every tap and step of the sum."""

from collections.abc import Callable
from math import ceil

from backends.channels import Block
from backends.emit import bind, cast, constant, function, load, loop, store
from backends.workload import Packed, Tensor


def packed_rows(weight: Tensor, blocks: tuple[Block, ...], groups: int) -> Packed:
    """[outputs, channels, kernel] as [groups, blocks, kernel, channels, block width], in the weights' own type."""
    channels, taps = _inner(weight)

    def number(stored, output, tap, k):
        return load(stored, (output * channels + k) * taps + tap)
    return arranged(weight, {"weight": weight}, weight.dtype, blocks, groups, 1, number)


def packed_words(weight: Tensor, blocks: tuple[Block, ...], groups: int) -> Packed:
    """Weights of one byte in the same order, as int32 words of four channels, lowest byte first, zeros past the last."""
    channels, taps = _inner(weight)
    return _words(weight, weight, blocks, groups, lambda output, tap, c: (output * channels + c) * taps + tap)


def packed_rows_of_words(weight: Tensor, blocks: tuple[Block, ...], groups: int) -> Packed:
    """The same, a row of the kernel and its channels taken as channels (`Window.columns_merged`)."""
    outputs, channels, rows, columns = weight.shape
    merged = Tensor((outputs, channels * columns, rows, 1), weight.dtype)
    return _words(weight, merged, blocks, groups, lambda output, row, c: (
        ((output * channels + c % channels) * rows + row) * columns + c // channels))


def _words(weight: Tensor, shape: Tensor, blocks: tuple[Block, ...], groups: int, place: Callable) -> Packed:
    """`place(output, tap, channel)`: where a number of `shape` lies in the stored weights."""
    def number(stored, output, tap, k):
        return pack_bytes([within(shape.shape[1], 4 * k + i, lambda c: load(stored, place(output, tap, c)), weight.dtype)
                           for i in range(4)])
    return arranged(shape, {"weight": weight}, "int32", blocks, groups, 4, number)


def arranged(weight: Tensor, sources: dict[str, Tensor], dtype: str, blocks: tuple[Block, ...], groups: int, chunk: int,
             number: Callable) -> Packed:
    """[groups, blocks, kernel, channels / chunk, block width] of `dtype`, from the stored tensors `sources` of weights
    [outputs, channels, kernel]: `number(*stored, output, tap, k)` stands for channels k * chunk and the following."""
    outputs, (channels, taps) = weight.shape[0] // groups, _inner(weight)
    steps = ceil(channels / chunk)
    rows = sum(block.count * block.width for block in blocks)
    tensor = Tensor((groups * rows * taps * steps,), dtype)

    def body(*buffers):
        *stored, packed = buffers
        with loop(groups) as g:
            for block in blocks:
                with loop(block.count) as turn, loop(taps) as tap, loop(steps) as k:
                    first = g * outputs + block.first + turn * block.width
                    row = (g * rows + block.base + turn * block.width) * taps * steps + (tap * steps + k) * block.width
                    place = 0
                    for vector in block.vectors:
                        with loop(vector.lanes) as lane:
                            value = number(*stored, first + vector.start + lane, tap, k)
                            store(packed, value, row + place + lane)
                        place += vector.lanes
    return Packed(function([*sources.values(), tensor], body), tensor, tuple(sources))


def with_sums(bias: Tensor, weight: Tensor, factor: int) -> Packed:
    """int32 bias of each output plus `factor` times the sum of its weights [outputs, channels, kernel]."""
    inner = weight.size // weight.shape[0]

    def body(weights, biases, packed):
        with loop(weight.shape[0]) as output:
            store(packed, load(biases, output), output)
            with loop(inner) as i:
                product = cast(load(weights, output * inner + i), "int32") * constant(factor, "int32")
                store(packed, load(packed, output) + product, output)
    return Packed(function([weight, bias, bias], body), bias, ("weight", "bias"))


def _inner(weight: Tensor) -> tuple[int, int]:
    """Channels and pixels of the kernel."""
    return weight.shape[1], weight.size // (weight.shape[0] * weight.shape[1])


def within(channels: int, c, read: Callable, dtype: str):
    """What `read` gives for channel c, zero past the last channel."""
    from tvm import tirx

    return bind(tirx.Select(c < channels, read(tirx.min(c, channels - 1)), constant(0, dtype)))


def pack_bytes(values: list):
    """An int32 word of four values of int8 or uint8, lowest byte first."""
    word = None
    for i, value in enumerate(values):
        part = cast(cast(value, "uint8"), "int32") << constant(8 * i, "int32")
        word = part if word is None else word | part
    return word
