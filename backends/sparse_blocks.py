"""Convolutions and dense layers with block-sparse weights, vectors over output channels.

The product of `backends.product` for one block of outputs at a time, in which the sum runs over the list of that block's
kept (input channel, pixel of the kernel) in place of all: the same broadcasts and vectors of weights, fewer of them.
"""

from dataclasses import dataclass
from typing import Any

from backends.channels import Vector, vectors_of
from backends.convolution import finisher, merged_views, merged_window
from backends.emit import bind, constant, load, loop_between, scratch, splat, store
from backends.nest import loop_unless_one, nest, shared
from backends.product import SMALL_WORK, tile_shapes, tiles_of, work
from backends.sparse import VALUES, Pattern, packed_pattern
from backends.view import View
from backends.window import Window, bordered, with_border
from backends.workload import Lowering

# Distances between pixels whose multiples fall on an eighth of a cache's sets, or on fewer (64 sets of 64 bytes).
CROWDED_BYTES = 512


def serves_blocks(workload) -> bool:
    """Float32; blocks that lie within one group of output channels (else weights are unpacked), and no part of one past the
    last input channel."""
    window, pattern = merged_window(workload), Pattern.of(workload, merged_window(workload))
    whole = window.groups == 1 or window.group_outputs % pattern.rows == 0
    return workload["x"].dtype == "float32" and whole and window.group_inputs % pattern.columns == 0


def block_options(workload, target) -> list[dict]:
    """Tiles of pixels that fill the registers, channels or pixels in the outer loop; one for small products."""
    window = merged_window(workload)
    pattern = Pattern.of(workload, window)
    vectors = len(vectors_of(pattern.rows, target.lanes))
    shapes = sorted(tile_shapes(window.out, max(1, (target.registers - 3 - vectors) // vectors)), reverse=True)
    options = [{"rows": rows, "columns": columns, "outer": outer} for rows, columns in shapes
               for outer in ("channels", "pixels")]
    return options if work(window) * pattern.density // target.lanes >= SMALL_WORK else options[:1]


def block_convolution(workload, target, option: dict) -> Lowering:
    """The kernel of (x, weight.bitmap, weight.values, bias)."""
    window = merged_window(workload)
    pattern = Pattern.of(workload, window)
    gap = _gap(window, target.lanes)
    there = View.of(None, with_border(workload["x"], window, gap))
    threads = target.threads_for(int(work(window) * pattern.density) // target.lanes)

    def distance(channel, row, column):
        return (channel * there.channel + row * (window.dilation[0] * there.row)
                + column * (window.dilation[1] * there.column))

    def body(buffers, sink):
        image, results = merged_views(workload, buffers, sink)
        with loop_unless_one(window.batch) as n:
            x = bordered(image.of_image(n), workload["x"], window, 0.0, target.lanes, threads, gap)
            with shared(threads) as share:
                for rows in _rows(pattern, target.lanes):
                    _row_blocks(pattern, rows, option, share, x, buffers, finisher(workload, buffers, results, n))
    return Lowering(body, packed_pattern(workload["weight.bitmap"], pattern, distance))


def _gap(window: Window, lanes: int) -> int:
    """Numbers left out between pixels, so that one channel of neighbouring pixels does not fall on few sets of the cache."""
    return lanes if window.inputs * 4 % CROWDED_BYTES == 0 else 0


@dataclass(frozen=True)
class _Rows:
    """`count` rows of blocks from the one numbered `first` on, whose outputs are `vectors`."""

    first: int
    count: int
    vectors: tuple[Vector, ...]


def _rows(pattern: Pattern, lanes: int) -> list[_Rows]:
    """Whole rows of blocks, then one of the outputs that are left."""
    full, rest = divmod(pattern.window.outputs, pattern.rows)
    rows = [_Rows(0, full, vectors_of(pattern.rows, lanes))] if full else []
    return rows + ([_Rows(full, 1, vectors_of(rest, lanes))] if rest else [])


def _row_blocks(pattern: Pattern, rows: _Rows, option: dict, share, image: View, buffers: dict, finish) -> None:
    window = pattern.window
    for r in tiles_of(window.out[0], option["rows"]):
        for c in tiles_of(window.out[1], option["columns"]):
            extents = {"channels": rows.count, "rows": r.count, "columns": c.count}
            with nest(extents, option["outer"], share) as index:
                tile = _Tile((r.start + index["rows"] * r.size, r.size), (c.start + index["columns"] * c.size, c.size))
                _tile(pattern, rows.vectors, rows.first + index["channels"], tile, image, buffers, finish)


@dataclass(frozen=True)
class _Tile:
    """Pixels: rows `y` and columns `x`, the first and how many."""

    y: tuple[Any, int]
    x: tuple[Any, int]

    def pixels(self):
        """(number, row, column) of each pixel in the tile."""
        return [(r * self.x[1] + c, r, c) for r in range(self.y[1]) for c in range(self.x[1])]


def _tile(pattern: Pattern, vectors, row, tile: _Tile, image: View, buffers: dict, finish) -> None:
    """One row of blocks on a tile of pixels: its sums stay in registers."""
    window, width = pattern.window, sum(vector.lanes for vector in vectors)
    sums, places = scratch(len(tile.pixels()) * width, "float32", registers=True), _places(vectors)
    for number, _, _ in tile.pixels():
        for vector, place in places:
            store(sums, constant(0, "float32", vector.lanes), number * width + place, vector.lanes)
    corner = bind(image.at(0, tile.y[0] * window.stride[0], tile.x[0] * window.stride[1], 0))
    with loop_between(load(buffers["starts"], row), load(buffers["starts"], row + 1)) as block:
        begin = bind(corner + load(buffers["offsets"], block))
        for column in range(pattern.columns):
            weights = (block * pattern.columns + column) * pattern.rows
            _multiply(window, tile, places, width, sums, image, begin + column * image.channel, buffers[VALUES], weights)
    for number, r, c in tile.pixels():
        for vector, place in places:
            finish(load(sums, number * width + place, vector.lanes), tile.y[0] + r, tile.x[0] + c,
                   row * pattern.rows + vector.start, vector.lanes)


def _multiply(window, tile: _Tile, places, width: int, sums, image: View, begin, values, weights) -> None:
    """One input channel at one pixel of the kernel times the outputs of a block."""
    loaded = {place: bind(load(values, weights + vector.start, vector.lanes)) for vector, place in places}
    for number, r, c in tile.pixels():
        away = r * window.stride[0] * image.row + c * window.stride[1] * image.column
        x = bind(load(image.buffer, begin + away))
        for vector, place in places:
            at = number * width + place
            total = load(sums, at, vector.lanes) + splat(x, vector.lanes) * loaded[place]
            store(sums, total, at, vector.lanes)


def _places(vectors) -> list[tuple[Vector, int]]:
    """Each vector, and where it begins in the sums of a pixel."""
    places, place = [], 0
    for vector in vectors:
        places.append((vector, place))
        place += vector.lanes
    return places
