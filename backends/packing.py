"""Weights as products want them, computed once when a network is loaded: block by block, a row of the block's
vectors for every tap and step of the sum."""

from collections.abc import Callable
from math import ceil

from backends.channels import Block
from backends.emit import bind, cast, constant, function, load, loop, store
from backends.workload import Packed, Tensor


def packed_rows(weight: Tensor, blocks: tuple[Block, ...], groups: int) -> Packed:
    """[outputs, channels, kernel] as [groups, blocks, kernel, channels, block width], in the weights' own type."""
    return _packed(weight, weight.dtype, blocks, groups, 1)


def packed_words(weight: Tensor, blocks: tuple[Block, ...], groups: int) -> Packed:
    """Weights of one byte in the same order, as int32 words of four channels, lowest byte first, zeros past the last."""
    return _packed(weight, "int32", blocks, groups, 4)


def packed_matrix(source: tuple[str, Tensor], outputs: int, inputs: int, blocks: tuple[Block, ...], groups: int,
                  number: Callable) -> Packed:
    """A float32 matrix [outputs, inputs] for each group in the order of `packed_rows`, from another stored tensor:
    `number(stored, g, o, c)`."""
    name, stored_tensor = source
    rows = sum(block.count * block.width for block in blocks)
    tensor = Tensor((groups * rows * inputs,), "float32")

    def body(stored, packed):
        with loop(groups) as g:
            for block in blocks:
                with loop(block.count) as i, loop(inputs) as c:
                    row = (g * rows + block.base + i * block.width) * inputs + c * block.width
                    place = 0
                    for vector in block.vectors:
                        with loop(vector.lanes) as lane:
                            output = block.first + i * block.width + vector.start + lane
                            store(packed, number(stored, g, output, c), row + place + lane)
                        place += vector.lanes
    return Packed(function([stored_tensor, tensor], body), tensor, (name,))


def _packed(weight: Tensor, dtype: str, blocks: tuple[Block, ...], groups: int, chunk: int) -> Packed:
    outputs, channels = weight.shape[0] // groups, weight.shape[1]
    taps, steps = weight.size // (weight.shape[0] * channels), ceil(channels / chunk)
    rows = sum(block.count * block.width for block in blocks)
    tensor = Tensor((groups * rows * taps * steps,), dtype)

    def body(stored, packed):
        with loop(groups) as g:
            for block in blocks:
                with loop(block.count) as number, loop(taps) as tap, loop(steps) as k:
                    first = g * outputs + block.first + number * block.width
                    row = (g * rows + block.base + number * block.width) * taps * steps + (tap * steps + k) * block.width
                    place = 0
                    for vector in block.vectors:
                        with loop(vector.lanes) as lane:
                            source = (first + vector.start + lane) * channels * taps + tap
                            store(packed, _number(stored, source, k, taps, channels, chunk), row + place + lane)
                        place += vector.lanes
    return Packed(function([weight, tensor], body), tensor)


def _number(stored, source, k, taps: int, channels: int, chunk: int):
    """Channels k * chunk and the following of one output and tap: one number, or a word of four bytes."""
    if chunk == 1:
        return load(stored, source + k * taps)
    return pack_bytes([_channel(stored, source, 4 * k + i, taps, channels) for i in range(4)])


def _channel(stored, source, c, taps: int, channels: int):
    from tvm import tirx

    inside = load(stored, source + tirx.min(c, channels - 1) * taps)
    return bind(tirx.Select(c < channels, inside, constant(0, stored.dtype)))


def pack_bytes(values: list):
    """An int32 word of four values of int8 or uint8, lowest byte first."""
    word = None
    for i, value in enumerate(values):
        part = cast(cast(value, "uint8"), "int32") << constant(8 * i, "int32")
        word = part if word is None else word | part
    return word
