"""Matrices transposed in registers, square block by square block: log2(n) rounds of exchanges between pairs of rows
(Eklundh, A fast computer method for matrix transposing, 1972)."""

from collections.abc import Callable

from backends.emit import bind, loop, segments


def transpose(rows: int, columns: int, lanes: int, read: Callable, write: Callable) -> None:
    """`read(row, column, n)` gives n numbers of a row from a column on, `write(column, row, n, numbers)` takes n of a column
    from a row on."""
    for r in segments(rows, lanes):
        for c in segments(columns, lanes):
            size = min(r.lanes, c.lanes)
            with loop(r.count * (r.lanes // size)) as i, loop(c.count * (c.lanes // size)) as j:
                row, column = bind(r.start + i * size), bind(c.start + j * size)
                block = [bind(read(row + k, column, size)) for k in range(size)]
                for k, numbers in enumerate(_transposed(block)):
                    write(column + k, row, size, numbers)


def _transposed(block: list) -> list:
    """n vectors of n numbers."""
    distance = len(block) // 2
    while distance:
        block = _exchanged(block, distance)
        distance //= 2
    return block


def _exchanged(block: list, distance: int) -> list:
    """Rows `distance` apart swap the parts of their numbers in which they are off the diagonal."""
    from tvm import tirx

    size, out = len(block), list(block)
    upper = [i + size - distance if i & distance else i for i in range(size)]
    lower = [i + size if i & distance else i + distance for i in range(size)]
    for first in (i for i in range(size) if not i & distance):
        pair = [block[first], block[first + distance]]
        out[first], out[first + distance] = (bind(tirx.Shuffle(pair, indices)) for indices in (upper, lower))
    return out
