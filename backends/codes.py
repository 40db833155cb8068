"""Weights stored as codes of few bits, packed row by row (a row is what an output channel has), rows padded to whole bytes,
lowest bits first.

A kernel file of an op `unpack_<format>` says with `codes(unpack)` how its tensors hold codes and what they stand for.
That serves to unpack them when a network is loaded, and to multiply by them as they are (`backends.few_bits`).
"""

from dataclasses import dataclass
from math import prod

from backends.emit import cast, constant, load, loop, scratch, store
from backends.lowering import algorithms
from backends.workload import Lowering, Workload


@dataclass(frozen=True)
class Plane:
    """A tensor, by its name, that holds `bits` bits of every code."""

    name: str
    bits: int


@dataclass(frozen=True)
class Codes:
    """The planes of a code, lowest bits first, and the int8 value that each code stands for."""

    planes: tuple[Plane, ...]
    values: tuple[int, ...]

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return sum(plane.bits for plane in self.planes)


def twos_complement(bits: int) -> tuple[int, ...]:
    """The signed integers that the codes of `bits` bits stand for."""
    return tuple(code - (code >> (bits - 1) << bits) for code in range(1 << bits))


def codes_of(unpack: Workload) -> Codes | None:
    """How the weights that `unpack` gives are coded; None if they are stored in another way."""
    found = [algorithm.codes for algorithm in algorithms(unpack.op) if hasattr(algorithm, "codes")]
    return found[0](unpack) if found else None


def read_code(codes: Codes, stored: list, count: int, row, i):
    """Code i of a row of `count` codes as an int32; `stored` are the planes' buffers."""
    code, place = constant(0, "int32"), 0
    for plane, buffer in zip(codes.planes, stored):
        code = code | (_bits(buffer, plane.bits, count, row, i) << place)
        place += plane.bits
    return code


def _bits(buffer, bits: int, count: int, row, i):
    """`bits` bits of a row, which may lie in two bytes."""
    from tvm import tirx

    size, first = -(-count * bits // 8), i * bits
    pair = cast(load(buffer, row * size + (first >> 3)), "int32")
    if 8 % bits:
        pair = pair | (cast(load(buffer, row * size + tirx.min((first >> 3) + 1, size - 1)), "int32") << 8)
    return (pair >> (first & 7)) & ((1 << bits) - 1)


def unpacked(workload: Workload, codes: Codes) -> Lowering:
    """Unpacks the weights of `workload`, code by code."""
    shape = workload.out.shape
    rows, count = (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, shape[0])

    def body(buffers, sink):
        table = scratch(len(codes.values), "int8")
        for code, value in enumerate(codes.values):
            store(table, constant(value, "int8"), code)
        with loop(rows) as row, loop(count) as i:
            code = read_code(codes, [buffers[plane.name] for plane in codes.planes], count, row, i)
            store(sink.out.buffer, load(table, code), row * count + i)
    return Lowering(body)
