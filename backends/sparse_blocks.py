"""Convolutions and dense layers with block-sparse weights, vectors over output channels.

The product of `backends.product` for one block of outputs at a time, in which the sum runs over the list of that block's
kept (input channel, pixel of the kernel) in place of all: the same broadcasts and vectors of weights, fewer of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from backends.channels import Vector, vectors_of
from backends.convolution import finisher, merged_views, merged_window, plain_ending
from backends.emit import bind, cast, constant, load, loop, loop_between, scratch, splat, store
from backends.nest import loop_unless_one, nest, shared
from backends.product import SMALL_WORK, tile_shapes, tiles_of, work
from backends.sparse import VALUES, Pattern, listed, packed_pattern
from backends.view import View
from backends.window import Window, bordered, with_border
from backends.workload import Lowering

# Distances between pixels whose multiples fall on an eighth of a cache's sets, or on fewer (64 sets of 64 bytes).
CROWDED_BYTES = 512
# Sums that are formed at once so that no multiply-add waits for the one before.
LEAST_SUMS = 8


def serves_blocks(workload, target) -> bool:
    """Float32; blocks of half a vector of outputs or more, or any on an image of one pixel; else weights are unpacked, as
    they are where a block reaches into two groups or past the last input channel."""
    window = Window.of(workload)
    pattern = Pattern.of(workload, window)
    return workload["x"].dtype == "float32" and pattern.whole and (2 * pattern.rows >= target.lanes or window.out == (1, 1))


def block_options(workload, target) -> list[dict]:
    """Tiles of pixels that fill the registers, channels or pixels in the outer loop; one for small products."""
    window = merged_window(workload)
    pattern = Pattern.of(workload, window)
    vectors = len(vectors_of(pattern.rows, target.lanes))
    shapes = sorted(tile_shapes(window.out, max(1, (target.registers - 3 - vectors) // vectors)), reverse=True)
    options = [{"rows": rows, "columns": columns, "outer": outer} for rows, columns in shapes
               for outer in (("channels", "pixels") if (rows, columns) != window.out else ("channels",))]
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
                    _row_blocks(pattern, rows, option, share, x, buffers, finisher(buffers, results, n, plain_ending(workload)))
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
    """One row of blocks on a tile of pixels: its sums stay in registers, several of each where they are few."""
    window, width, places = pattern.window, sum(vector.lanes for vector in vectors), _places(vectors)
    size = len(tile.pixels()) * width
    ways = max(1, LEAST_SUMS // (len(tile.pixels()) * len(vectors)))
    sums = scratch(ways * size, "float32", registers=True)
    results = [(pixel, vector, pixel[0] * width + place) for pixel in tile.pixels() for vector, place in places]
    for way in range(ways):
        for _, vector, place in results:
            store(sums, constant(0, "float32", vector.lanes), way * size + place, vector.lanes)
    corner = bind(image.at(0, tile.y[0] * window.stride[0], tile.x[0] * window.stride[1], 0))
    for block, way in _listed(*listed(buffers["starts"], row), ways):
        begin = bind(corner + cast(load(buffers["offsets"], block), "int32"))
        for column in range(pattern.columns):
            weights = (block * pattern.columns + column) * pattern.rows
            _multiply(window, tile, places, width, sums, way * size, image, begin + column * image.channel, buffers[VALUES],
                      weights)
    for (_, r, c), vector, place in results:
        total = _total([load(sums, way * size + place, vector.lanes) for way in range(ways)])
        finish(total, tile.y[0] + r, tile.x[0] + c, row * pattern.rows + vector.start, vector.lanes)


def _listed(first, end, ways: int) -> Iterator[tuple[Any, int]]:
    """Loops over a list: (entry, which of the sums takes it), as many entries a turn as there are sums."""
    if ways > 1:
        turns = bind((end - first) // ways)
        with loop(turns) as turn:
            yield from ((first + turn * ways + way, way) for way in range(ways))
        first = bind(first + turns * ways)
    with loop_between(first, end) as entry:
        yield entry, 0


def _total(parts: list):
    """The sum of values, pair by pair."""
    while len(parts) > 1:
        parts = [sum(parts[i + 1:i + 2], parts[i]) for i in range(0, len(parts), 2)]
    return parts[0]


def _multiply(window, tile: _Tile, places, width: int, sums, base: int, image: View, begin, values, weights) -> None:
    """One input channel at one pixel of the kernel times the outputs of a block."""
    loaded = {place: bind(load(values, weights + vector.start, vector.lanes)) for vector, place in places}
    for number, r, c in tile.pixels():
        away = r * window.stride[0] * image.row + c * window.stride[1] * image.column
        x = bind(load(image.buffer, begin + away))
        for vector, place in places:
            at = base + number * width + place
            total = load(sums, at, vector.lanes) + splat(x, vector.lanes) * loaded[place]
            store(sums, total, at, vector.lanes)


def _places(vectors) -> list[tuple[Vector, int]]:
    """Each vector, and where it begins in the sums of a pixel."""
    places, place = [], 0
    for vector in vectors:
        places.append((vector, place))
        place += vector.lanes
    return places
