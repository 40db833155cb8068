"""Convolutions with sparse weights, vectors over pixels (Park et al., Faster CNNs with direct sparse convolutions and guided
pruning, 2017, section 2.1).

The image is copied to one plane a channel, with its border, its rows one after the other: then a weight multiplies, for
neighbouring pixels of an output plane, neighbouring numbers of an input plane, a fixed distance away. A tile of pixels
of one row of blocks stays in registers while the list of its kept weights runs by: a broadcast and one multiply-add per
vector and weight. Strided convolutions read every stride-th pixel: such pixels have planes of their own (phases).
Input channels are taken in chunks whose part under the tile stays in the first cache; sums go back to channels last
through a transposition in registers.
"""

from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any

from backends.convolution import finisher, merged_views, merged_window, plain_ending
from backends.emit import bind, cast, constant, load, loop, loop_between, scratch, splat, store, when
from backends.nest import loop_unless_one, nest, shared
from backends.product import tiles_of, work
from backends.sparse import VALUES, Pattern, listed, packed_pattern
from backends.transpose import transpose
from backends.view import View
from backends.window import Window
from backends.workload import Lowering

# Blocks of more output channels than this are for vectors over outputs.
MOST_ROWS = 8


@dataclass(frozen=True)
class Planes:
    """How the copied image lies: `phases` (y, x) times channels planes of `size` numbers, rows `pitch` apart. Neighbouring
    rows share the columns that are border on both sides."""

    window: Window
    lanes: int

    @property
    def phases(self) -> tuple[int, int]:
        """Of how many planes a channel's rows and columns are."""
        w = self.window
        return tuple(min(w.stride[i], (w.kernel[i] - 1) * w.dilation[i] + 1) for i in (0, 1))

    @property
    def further(self) -> tuple[int, int]:
        """Rows and columns of a plane that the kernel reads past a pixel's own."""
        w = self.window
        return tuple((w.kernel[i] - 1) * w.dilation[i] // w.stride[i] for i in (0, 1))

    @property
    def pitch(self) -> int:
        """From one row of a plane to the next."""
        sharing = min(*self.window.border[1], self.further[1]) if self.window.stride[1] == 1 else 0
        return self.window.out[1] + self.further[1] - sharing

    @property
    def rows(self) -> int:
        """Rows of a plane."""
        return self.window.out[0] + self.further[0]

    @property
    def size(self) -> int:
        """Numbers of a plane, with what the last vector reads too much."""
        return -(-(self.rows * self.pitch + self.further[1] + self.lanes) // self.lanes) * self.lanes

    @property
    def pixels(self) -> int:
        """From the first output pixel in a plane to the last, with the columns between rows that are none."""
        return self.window.out[0] * self.pitch - self.pitch + self.window.out[1]

    def read_bytes(self, vectors: int) -> int:
        """What a tile reads of one channel."""
        pixels = vectors * self.lanes + self.further[0] * self.pitch + self.further[1]
        return 4 * pixels * self.phases[0] * self.phases[1]

    def place(self, pixel):
        """Whether a number of an output plane is a pixel, and its row and column."""
        from tvm import tirx

        (height, width), (y, x) = self.window.out, (pixel // self.pitch, pixel % self.pitch)
        return (pixel < width, 0, pixel) if height == 1 else (tirx.And(x < width, y < height), bind(y), bind(x))

    def distance(self, channel, row, column):
        """From the plane of an output pixel to the input that the kernel's pixel (row, column) reads of a channel."""
        w = self.window
        y, x = row * w.dilation[0], column * w.dilation[1]
        phase = (y % w.stride[0]) * self.phases[1] + x % w.stride[1]
        return (phase * w.inputs + channel) * self.size + y // w.stride[0] * self.pitch + x // w.stride[1]


def serves_planes(workload, target) -> bool:
    """Float32, images of several pixels, blocks of few outputs that fill a vector; else weights are unpacked, as they are
    where a block reaches into two groups or past the last input channel."""
    window = Window.of(workload)
    pattern = Pattern.of(workload, window)
    few = pattern.rows <= MOST_ROWS and target.lanes % pattern.rows == 0
    return workload["x"].dtype == "float32" and few and pattern.whole and window.out != (1, 1)


def plane_options(workload, target) -> list[dict]:
    """Vectors of 512 bits also by halves, which cross fewer cache lines. A tile fills the registers and takes input channels
    in chunks of the first cache, or it fills a third of them and takes chunks or all channels at once."""
    window = merged_window(workload)
    pattern, options = Pattern.of(workload, window), []
    for lanes, parts in product((target.lanes, 8) if target.lanes == 16 else (target.lanes,), (1, 3)):
        planes = Planes(window, lanes)
        count, room = ceil(planes.pixels / lanes), (target.registers - 2 - pattern.rows) // pattern.rows // parts
        vectors = ceil(count / ceil(count / max(1, room)))
        chunk = min(pattern.along, max(1, target.l1_bytes // planes.read_bytes(vectors) // pattern.columns))
        for channels in sorted({chunk, pattern.along} if parts > 1 else {chunk}):
            option = {"lanes": lanes, "vectors": vectors, "chunk": channels}
            options += [option] if option not in options else []
    return options


def plane_convolution(workload, target, option: dict) -> Lowering:
    """The kernel of (x, weight.bitmap, weight.values, bias)."""
    window = merged_window(workload)
    pattern, planes = Pattern.of(workload, window, option["chunk"]), Planes(window, option["lanes"])
    threads = target.threads_for(int(work(window) * pattern.density) // option["lanes"])

    def body(buffers, sink):
        image, results = merged_views(workload, buffers, sink)
        given = scratch(planes.phases[0] * planes.phases[1] * window.inputs * planes.size, "float32")
        with loop_unless_one(window.batch) as n:
            with shared(threads) as share:
                _fill(planes, image.of_image(n), given, target.lanes, share)
            with shared(threads) as share:
                _product(planes, pattern, option, target.lanes, share, given, buffers,
                         finisher(buffers, results, n, plain_ending(workload)))
    return Lowering(body, packed_pattern(workload["weight.bitmap"], pattern, planes.distance))


def _fill(planes: Planes, image: View, given, lanes: int, share) -> None:
    """The image by planes; rows and columns outside it are zeros."""
    from tvm import tirx

    window, (rows, columns) = planes.window, planes.phases
    for a, b, channels in product(range(rows), range(columns), tiles_of(window.inputs, lanes)):
        with nest({"channels": channels.count, "rows": planes.rows, "columns": 1}, "channels", share) as index:
            first = bind(channels.start + index["channels"] * channels.size)
            to = _Row(planes, given, (a * columns + b) * window.inputs + first, channels.size, index["rows"])
            y = bind(index["rows"] * window.stride[0] + (a - window.padding[0]))
            inside = bind(tirx.And(y >= 0, y < window.size[0]))
            with when(inside):
                _fill_row(to, image.from_channel(first), y, b, lanes)
            with when(tirx.Not(inside)):
                to.clear(0, planes.pitch)
            with when(index["rows"] == planes.rows - 1):
                to.clear(planes.pitch, planes.size - (planes.rows - 1) * planes.pitch)


@dataclass(frozen=True)
class _Row:
    """One row of `channels` planes from the one numbered `plane` on, in the buffer `given`."""

    planes: Planes
    given: Any
    plane: Any
    channels: int
    row: Any

    def at(self, channel, column):
        """Where a number lies."""
        return (self.plane + channel) * self.planes.size + self.row * self.planes.pitch + column

    def clear(self, first: int, end: int) -> None:
        """Zeros in the columns from the first on, before the end."""
        if first < end:
            with loop(self.channels) as channel, loop(end - first) as column:
                store(self.given, constant(0, "float32"), self.at(channel, first + column))


def _fill_row(to: _Row, image: View, y, phase: int, lanes: int) -> None:
    """The columns of a phase of one row of an image, channel by channel."""
    window, step = to.planes.window, to.planes.window.stride[1]
    left = min(max(0, ceil((window.padding[1] - phase) / step)), to.planes.pitch)
    right = max(left, min(to.planes.pitch, ceil((window.size[1] + window.padding[1] - phase) / step)))
    to.clear(0, left)
    to.clear(right, to.planes.pitch)

    def read(pixel, channel, n):
        column = (left + pixel) * step + (phase - window.padding[1])
        return load(image.buffer, image.at(0, y, column, channel), n, image.channel)

    def write(channel, pixel, n, numbers):
        store(to.given, numbers, to.at(channel, left + pixel), n)
    transpose(right - left, to.channels, lanes, read, write)


def _product(planes: Planes, pattern: Pattern, option: dict, lanes: int, share, given, buffers: dict, finish) -> None:
    """Every tile of pixels of `lanes` outputs at a time."""
    window = planes.window
    for outputs in tiles_of(window.outputs, lanes):
        for tile in tiles_of(ceil(planes.pixels / planes.lanes), option["vectors"]):
            extents = {"channels": outputs.count, "rows": 1, "columns": tile.count}
            with nest(extents, "pixels", share) as index:
                first = bind(outputs.start + index["channels"] * outputs.size)
                pixel = bind((tile.start + index["columns"] * tile.size) * planes.lanes)
                work_on = _Tile(planes, pattern, first, outputs.size, pixel, tile.size)
                sums = scratch(ceil(outputs.size / pattern.rows) * pattern.rows * work_on.width, "float32")
                _sum(work_on, given, buffers, sums)
                _finish(work_on, sums, lanes, finish)


@dataclass(frozen=True)
class _Tile:
    """`outputs` channels from `first` on, of `vectors` vectors of pixels from `pixel` on."""

    planes: Planes
    pattern: Pattern
    first: Any
    outputs: int
    pixel: Any
    vectors: int

    @property
    def width(self) -> int:
        """Pixels."""
        return self.vectors * self.planes.lanes


def _sum(tile: _Tile, given, buffers: dict, sums) -> None:
    """Chunk by chunk of input channels, each row of blocks on the tile; `sums` hold them in between."""
    pattern = tile.pattern
    for chunks in ((0, 1), (1, pattern.chunks)):
        if chunks[0] < chunks[1]:
            with loop_between(*chunks) as chunk, loop(ceil(tile.outputs / pattern.rows)) as row:
                number = bind((tile.first // pattern.rows + row) * pattern.chunks + chunk)
                _row(tile, number, row, given, buffers, sums, chunks[0] == 0)


def _row(tile: _Tile, number, row, given, buffers: dict, sums, fresh: bool) -> None:
    """One chunk of one row of blocks: all its kept blocks, their sums in registers."""
    lanes, pattern, width = tile.planes.lanes, tile.pattern, tile.width
    kept, begin = scratch(pattern.rows * width, "float32", registers=True), bind(row * (pattern.rows * width))
    for place in range(0, pattern.rows * width, lanes):
        start = constant(0, "float32", lanes) if fresh else load(sums, begin + place, lanes)
        store(kept, start, place, lanes)
    with loop_between(*listed(buffers["starts"], number)) as block:
        x = bind(tile.pixel + cast(load(buffers["offsets"], block), "int32"))
        for column in range(pattern.columns):
            weights = (block * pattern.columns + column) * pattern.rows
            _multiply(tile, given, x + column * tile.planes.size, buffers[VALUES], weights, kept)
    for place in range(0, pattern.rows * width, lanes):
        store(sums, load(kept, place, lanes), begin + place, lanes)


def _multiply(tile: _Tile, given, x, values, weights, kept) -> None:
    """The numbers of an input plane from x on times the weights of a block's outputs."""
    lanes = tile.planes.lanes
    factors = [bind(splat(load(values, weights + row), lanes)) for row in range(tile.pattern.rows)]
    for vector in range(tile.vectors):
        numbers = bind(load(given, x + vector * lanes, lanes))
        for row, factor in enumerate(factors):
            place = row * tile.width + vector * lanes
            store(kept, load(kept, place, lanes) + factor * numbers, place, lanes)


def _finish(tile: _Tile, sums, lanes: int, finish) -> None:
    """The sums, channels last, of those pixels that are some."""
    def read(output, pixel, n):
        return load(sums, output * tile.width + pixel, n)

    def write(pixel, output, n, numbers):
        inside, y, x = tile.planes.place(bind(tile.pixel + pixel))
        with when(inside):
            finish(numbers, y, x, tile.first + output, n)
    transpose(tile.outputs, tile.width, lanes, read, write)
