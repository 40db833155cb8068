"""Output channels cut into vectors, and vectors into blocks that a kernel keeps in registers.

Where the channels are no multiple of a vector, the last vector begins earlier and overlaps its
neighbour: the overlap is computed twice with one result, and nothing is padded in memory.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Vector:
    """`lanes` channels, `start` channels from the block's first."""

    start: int
    lanes: int


@dataclass(frozen=True)
class Block:
    """`count` blocks in a row, the first of which begins at channel `first`; its packed weights begin `base` rows
    of one number in, and take `width` numbers a row."""

    first: int
    count: int
    vectors: tuple[Vector, ...]
    base: int

    @property
    def width(self) -> int:
        """Numbers of one packed row: the lanes of all vectors."""
        return sum(vector.lanes for vector in self.vectors)


def vectors_of(channels: int, lanes: int) -> tuple[Vector, ...]:
    """Vectors of powers of two that cover the channels: full ones, then for the rest one that ends with the channels."""
    full, rest = divmod(channels, lanes)
    vectors = [Vector(i * lanes, lanes) for i in range(full)]
    if rest and _power(rest) > channels:  # no room to move back: the widest that fits goes first
        first = _power(rest) // 2
        vectors.append(Vector(0, first))
        rest -= first
    if rest:
        vectors.append(Vector(channels - _power(rest), _power(rest)))
    return tuple(vectors)


def runs_of(channels: int, lanes: int) -> list[tuple[int, int, int]]:
    """The same vectors as loops: the first channel, how many vectors in a row, their lanes."""
    full = channels // lanes
    return ([(0, full, lanes)] if full else []) + [(v.start, 1, v.lanes) for v in vectors_of(channels, lanes)[full:]]


def _power(number: int) -> int:
    """The least power of two that is not less."""
    return 1 << (number - 1).bit_length()


def blocks_of(channels: int, lanes: int, vectors: int) -> tuple[Block, ...]:
    """Blocks of `vectors` full vectors, then a last block of what is left."""
    every = vectors_of(channels, lanes)
    full = channels // lanes // vectors
    blocks, rest = [], every[full * vectors:]
    if full:
        blocks.append(Block(0, full, tuple(Vector(i * lanes, lanes) for i in range(vectors)), 0))
    if rest:
        first = rest[0].start
        blocks.append(Block(first, 1, tuple(Vector(v.start - first, v.lanes) for v in rest), full * vectors * lanes))
    return tuple(blocks)
