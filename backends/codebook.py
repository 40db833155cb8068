"""Reading the packed codes of `unpack_codebook`: which bits hold the code of a sub-vector."""

from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, prod

from backends.emit import bind, cast, constant, load
from backends.nest import Share, nest
from backends.workload import Workload


@dataclass(frozen=True)
class Codes:
    """`bits` a code, one for each (output, segment of `length` inputs, kernel position), row-major; `tables` of `entries`
    vectors: one for all segments, or one each."""

    bits: int
    outputs: int
    segments: int
    positions: int
    tables: int
    entries: int
    length: int

    @classmethod
    def of(cls, unpack: Workload) -> "Codes":
        """The codes that an `unpack_codebook` workload reads."""
        tables, entries, length = unpack["table"].shape
        outputs, *rest = unpack.out.shape
        return cls(unpack["bits"], outputs, ceil(prod(rest[:1]) / length), prod(rest[1:]), tables, entries, length)

    def vector(self, segment, code):
        """The number of the table's vector, over all tables."""
        return code + segment * self.entries if self.tables > 1 else code

    def read(self, buffer, output, segment, position):
        """The code as an int32: its bits lie in one byte or two neighbours."""
        from tvm import tirx

        first = bind(((output * self.segments + segment) * self.positions + position) * self.bits)
        low = cast(load(buffer, first >> 3), "int32")
        last = ceil(self.outputs * self.segments * self.positions * self.bits / 8) - 1
        high = cast(load(buffer, tirx.min((first >> 3) + 1, last)), "int32") << constant(8, "int32")
        return bind((low | high) >> (first & 7) & constant(2**self.bits - 1, "int32"))


@dataclass(frozen=True)
class Blocks:
    """`count` blocks of `width` outputs that cover all of them; the last begins earlier and overlaps its neighbour where the
    outputs are no multiple."""

    outputs: int
    width: int
    count: int

    def first(self, block):
        """The first output of a block."""
        from tvm import tirx

        return tirx.min(block * self.width, self.outputs - self.width) if self.outputs % self.width else block * self.width


def blocks_of_outputs(outputs: int, width: int) -> Blocks:
    """Blocks of a dense layer of at least `width` outputs."""
    return Blocks(outputs, width, ceil(outputs / width))


@contextmanager
def for_each_block(blocks: Blocks, share: Share | None):
    """`with for_each_block(blocks, share) as block`: its number; a thread takes its share."""
    with nest({"channels": blocks.count, "rows": 1, "columns": 1}, "channels", share) as index:
        yield index["channels"]
