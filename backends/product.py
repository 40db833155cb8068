"""Convolutions and dense layers as register-tiled products, vectors over output channels.

sums[pixel, o] = sum over taps and input channels of x[pixel, tap, c] * w[tap, c, o]. A tile of pixels
times a block of output vectors stays in registers over the whole sum (Goto and van de Geijn, Anatomy of
High-Performance Matrix Multiplication, 2008): an input is broadcast, weights are loaded as vectors. Since
inputs are read one by one they may lie in any layout, and a kernel larger than 1x1 needs no unfolding.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product as product_of
from math import ceil
from typing import Any

from backends.channels import Block, Vector, blocks_of
from backends.emit import bind, constant, load, scratch, splat, store
from backends.nest import Share, loop_unless_one, nest
from backends.view import View
from backends.window import Window

# A narrow vector costs at least half as much as a full one.
NARROW_VECTOR = 0.5
# Vector operations below which options differ by less than a microsecond, and one is as good as four.
SMALL_WORK = 5_000
# Pixels with which a thread makes use enough of each weight that it loads.
FEWEST_PIXELS = 8


@dataclass(frozen=True)
class Arithmetic:
    """`chunk` input channels are one step of the sum; `x(buffer, index)` reads them as numbers, `weight(buffer, index,
    lanes)` as many vectors of weights from one of packed ones; `step(sums, x, weight, lanes)` multiplies and adds one of
    each; `pack(weight, blocks, groups)` packs weights. `merged`: the channels of a row of the kernel are one column's
    (`Window.columns_merged`). `offset`: what inputs are read less, so that sums lack it times the sum of the weights."""

    chunk: int
    sum_dtype: str
    x: Callable
    weight: Callable
    step: Callable
    pack: Callable
    merged: bool = False
    offset: int = 0


@dataclass(frozen=True)
class Tiles:
    """`count` tiles of `size` pixels from `start` on, along rows or columns."""

    start: int
    count: int
    size: int


def tiles_of(extent: int, size: int) -> list[Tiles]:
    """Covers the extent: tiles of `size`, then one of the rest."""
    count, rest = divmod(extent, size)
    tiles = [Tiles(0, count, size)] if count else []
    return tiles + ([Tiles(count * size, 1, rest)] if rest else [])


def product(window: Window, arithmetic: Arithmetic, lanes: int, share: Share | None, option: dict,
            image: View, weights, base, first, finish: Callable) -> None:
    """Writes the product of one group: `image` from its first input channel on; packed weights from `base` on;
    `finish(sums, y, x, c, lanes)` takes results of channel c; the group's first is `first`.

    An option has pixels of a tile (rows, columns), vectors of a block, and the `outer` loop: "channels" or "pixels".
    """
    blocks, begin = blocks_of(window.group_outputs, lanes, option["vectors"]), 0
    part = part_of(window, share.threads) if share else window
    if part is not window:
        begin, share = bind(_first_column(window, part, share)), None
    rows, columns = tiles_of(part.out[0], option["rows"]), tiles_of(part.out[1], option["columns"])
    for block, r, c in product_of(blocks, rows, columns):
        extents = {"channels": block.count, "rows": r.count, "columns": c.count}
        with nest(extents, option["outer"], share) as index:
            _tile(window, arithmetic, block, index["channels"], (r.start + index["rows"] * r.size, r.size),
                  (begin + c.start + index["columns"] * c.size, c.size), image, weights, base, first, finish)


def part_of(window: Window, threads: int) -> Window:
    """One thread's window where the pixels lie in one row: as many of them for each thread, so that it goes on with what its own
    core has in its cache; the whole window, to be shared in tiles, where it has rows or too few pixels."""
    pixels = ceil(window.out[1] / threads)
    return replace(window, out=(1, pixels)) if threads > 1 and window.out[0] == 1 and pixels >= FEWEST_PIXELS else window


def _first_column(window: Window, part: Window, share: Share):
    """Where a thread's part begins: the last ones earlier if parts do not divide the pixels, which are then computed twice with
    one result."""
    from tvm import tirx

    return tirx.min(share.thread * part.out[1], window.out[1] - part.out[1])


@dataclass(frozen=True)
class _Tile:
    """Pixels (`y`, `x`: the first and how many) times a block's vectors; `sums` holds them pixel by pixel."""

    block: Block
    y: tuple[Any, int]
    x: tuple[Any, int]
    sums: Any

    def vectors(self) -> Iterator[tuple[Vector, int]]:
        """Each vector of the block, and where it begins in a packed row."""
        place = 0
        for vector in self.block.vectors:
            yield vector, place
            place += vector.lanes

    def results(self) -> Iterator[tuple[int, int, Vector, int]]:
        """Each vector of each pixel: row and column in the tile, vector, its place in `sums`."""
        for r in range(self.y[1]):
            for c in range(self.x[1]):
                for vector, place in self.vectors():
                    yield r, c, vector, (r * self.x[1] + c) * self.block.width + place


def _tile(window, arithmetic, block: Block, number, y, x, image: View, weights, base, first, finish) -> None:
    sums = scratch(y[1] * x[1] * block.width, arithmetic.sum_dtype, registers=True)
    tile, steps = _Tile(block, y, x, sums), ceil(window.group_inputs / arithmetic.chunk)
    for _, _, vector, place in tile.results():
        store(sums, constant(0, arithmetic.sum_dtype, vector.lanes), place, vector.lanes)
    panel = bind(base + window.taps * steps * (block.base + number * block.width))
    corner = bind(image.at(0, y[0] * window.stride[0], x[0] * window.stride[1], 0))
    for (row, column, tap), k in _depth(window, steps):
        begin = corner + row * window.dilation[0] * image.row + column * window.dilation[1] * image.column
        _multiply(window, arithmetic, tile, image, begin + k * arithmetic.chunk * image.channel,
                  weights, panel + (tap * steps + k) * block.width)
    channel = bind(first + block.first + number * block.width)
    for r, c, vector, place in tile.results():
        finish(load(sums, place, vector.lanes), y[0] + r, x[0] + c, channel + vector.start, vector.lanes)


def _multiply(window, arithmetic, tile: _Tile, image: View, begin, weights, row) -> None:
    """One step of the sum: the packed weights at `row` times the inputs from `begin` on of every pixel."""
    unpacked = [arithmetic.weight(weights, row + place, vector.lanes) for vector, place in tile.vectors()]
    for part, loaded in enumerate(zip(*unpacked)):
        loaded = [bind(value) for value in loaded]
        for r in range(tile.y[1]):
            for c in range(tile.x[1]):
                away = r * window.stride[0] * image.row + c * window.stride[1] * image.column
                x = bind(arithmetic.x(image.buffer, begin + away)[part])
                for (vector, place), weight in zip(tile.vectors(), loaded):
                    at = (r * tile.x[1] + c) * tile.block.width + place
                    total = arithmetic.step(load(tile.sums, at, vector.lanes), splat(x, vector.lanes), weight, vector.lanes)
                    store(tile.sums, total, at, vector.lanes)


def _depth(window: Window, steps: int) -> Iterator[tuple[tuple, object]]:
    """Loops over the taps and steps of a sum: ((row, column, number of the tap), step)."""
    with loop_unless_one(window.kernel[0]) as r, loop_unless_one(window.kernel[1]) as s, loop_unless_one(steps) as k:
        yield (r, s, r * window.kernel[1] + s), k


def product_options(window: Window, target, arithmetic: Arithmetic, count: int = 4) -> list[dict]:
    """The tilings with the least estimated time, best first; fewer where the whole product takes microseconds."""
    ranked = sorted(_tilings(window, target), key=lambda option: _cycles(window, target, arithmetic, option))
    return ranked[:count if work(window) // target.lanes >= SMALL_WORK else 1]


def threads_for(window: Window, target, arithmetic: Arithmetic) -> int:
    """Threads that share a product."""
    return target.threads_for(work(window) // arithmetic.chunk // target.lanes)


def work(window: Window) -> int:
    """Multiply-adds of a convolution."""
    return window.batch * window.out[0] * window.out[1] * window.outputs * window.taps * window.group_inputs


def _tilings(window: Window, target) -> Iterator[dict]:
    registers = target.registers - 3
    every = -(-window.group_outputs // target.lanes)
    for vectors in range(1, min(every, 6) + 1):
        room = max(1, (registers - vectors) // vectors)
        for rows, columns in tile_shapes(window.out, room):
            alone = (rows, columns) == window.out or vectors == every  # one tile or one block: no order to choose
            for outer in ("channels",) if alone else ("channels", "pixels"):
                yield {"rows": rows, "columns": columns, "vectors": vectors, "outer": outer}


def tile_shapes(out: tuple[int, int], room: int) -> set[tuple[int, int]]:
    """Tiles of at most `room` pixels that divide a row evenly, or whole rows of a small image."""
    if out[1] > room:
        tiles = ceil(out[1] / room)
        return {(1, ceil(out[1] / tiles)), (1, room), (1, ceil(out[1] / (tiles + 1)))}
    rows = min(out[0], room // out[1])
    return {(rows, out[1]), (ceil(out[0] / ceil(out[0] / rows)), out[1])}


def _cycles(window: Window, target, arithmetic: Arithmetic, option: dict) -> float:
    """Estimated cycles: per step of the sum the larger of multiply-adds (and their latency) and loads, per tile a
    start, per block its weights from the next cache."""
    depth, total = window.taps * ceil(window.group_inputs / arithmetic.chunk), 0.0
    for block in blocks_of(window.group_outputs, target.lanes, option["vectors"]):
        units = sum(max(NARROW_VECTOR, v.lanes / target.lanes) for v in block.vectors)
        for r in tiles_of(window.out[0], option["rows"]):
            for c in tiles_of(window.out[1], option["columns"]):
                pixels, count = r.size * c.size, r.count * c.count * block.count
                step = max(pixels * units, 4.0, units + pixels / 2 + 1)
                total += count * (depth * step + 4 * pixels * units + 30)
    weights = depth * window.group_outputs * 4
    spilled = option["outer"] == "pixels" and weights > target.l1_bytes / 2
    return total * (1.02 if spilled else 1.0)
