"""Depthwise convolution in 8-bit integers by dot products of bytes, four rows of the kernel at once.

A channel's bytes of four rows in one column of the image are brought side by side into a 32-bit lane; one VPDPBUSD then
multiplies them by four weights and adds them up. A column of the image, once interleaved, serves every output pixel of the
tile that reads it. Interleaving within 128-bit lanes (as x86 does) leaves lane i of word vector j with channel
16 (i / 4) + 4 j + i % 4 of the vector; packing the results with saturation in the same way brings them back in order. Taps
outside the image are the zero point, known when the code is written: edges have code of their own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product as product_of
from math import ceil

from backends.dot import vnni
from backends.emit import bind, cast, constant, function, load, loop, scratch, store
from backends.epilogue import whole_steps
from backends.nest import loop_unless_one, nest, shared
from backends.packing import pack_bytes
from backends.product import SMALL_WORK
from backends.view import View
from backends.window import Window
from backends.workload import CHANNELS_LAST, Lowering, Packed, Tensor

WIDTHS = (16, 32, 64)
ROWS = 4
PACKS = {64: ("llvm.x86.avx512.packssdw.512", "llvm.x86.avx512.packuswb.512"),
         32: ("llvm.x86.avx2.packssdw", "llvm.x86.avx2.packuswb"),
         16: ("llvm.x86.sse2.packssdw.128", "llvm.x86.sse2.packuswb.128")}


@dataclass(frozen=True)
class _Channels:
    """`count` vectors of `lanes` channels from channel `first` on; `base`: channels in the vectors before."""

    first: int
    count: int
    lanes: int
    base: int


@dataclass(frozen=True)
class _Pixels:
    """`count` tiles of `size` output pixels from `start` on, along rows or columns. `taps`: (pixel, tap, input pixel or None
    where it lies outside), the input pixel counted from the tile's first."""

    start: int
    count: int
    size: int
    taps: tuple[tuple[int, int, int | None], ...]


def serves_dot(workload) -> bool:
    """16 channels and more, from bytes to bytes, channels last."""
    last = workload["x"].layout == CHANNELS_LAST
    return last and workload.out.dtype == "uint8" and workload.out.shape[1] >= WIDTHS[0]


def dot_options(workload, target) -> list[dict]:
    """Tiles of a few pixels: sums, weights and an interleaved column fit the registers."""
    width = Window.of(workload).out[1]
    options = [{"columns": size, "outer": outer} for size in sorted({min(width, s) for s in (4, 3)}, reverse=True)
               for outer in ("pixels", "channels")]
    return options if workload.out.size // target.lanes >= SMALL_WORK // ROWS else options[:2]


def depthwise_dot(workload, target, option: dict) -> Lowering:
    """The kernel of (x, weight, bias, scale)."""
    window = Window.of(workload)
    vectors = tuple(_vectors(window.inputs))
    packed = {"weight": _words(workload["weight"], vectors)} | {
        name: _in_word_order(workload[name], vectors) for name in workload.parameters}
    threads = target.threads_for(workload.out.size * window.kernel[1] // target.lanes)

    def body(buffers, sink):
        tile = _Tile(workload, window, buffers, View.of(buffers["x"], workload["x"]), sink)
        with loop_unless_one(window.batch) as n, shared(threads) as share:
            rows, columns = _tiles(window, 0, 1), _tiles(window, 1, option["columns"])
            for channels, r, c in product_of(vectors, rows, columns):
                extents = {"channels": channels.count, "rows": r.count, "columns": c.count}
                with nest(extents, option["outer"], share) as index:
                    tile.write(n, channels, index["channels"], (r, index["rows"]), (c, index["columns"]))
    return Lowering(body, packed)


def _vectors(channels: int) -> Iterator[_Channels]:
    """Covers the channels with vectors of WIDTHS; the last may overlap the one before."""
    widest = WIDTHS[-1]
    done = channels // widest * widest
    if done:
        yield _Channels(0, channels // widest, widest, 0)
    base = done
    while done < channels:
        fits = [lanes for lanes in WIDTHS if lanes <= channels]
        lanes = next((w for w in fits if w >= channels - done), fits[-1])
        first = min(done, channels - lanes)
        yield _Channels(first, 1, lanes, base)
        done, base = first + lanes, base + lanes


def _tiles(window: Window, axis: int, size: int) -> list[_Pixels]:
    """Tiles along an axis; neighbours that read the same taps become one loop."""
    merged: list[_Pixels] = []
    for start in range(0, window.out[axis], size):
        width = min(size, window.out[axis] - start)
        taps = tuple((p, tap, _inside(window, axis, start, p, tap)) for p in range(width) for tap in range(window.kernel[axis]))
        last = merged[-1] if merged else None
        if last and (last.size, last.taps) == (width, taps):
            merged[-1] = _Pixels(last.start, last.count + 1, width, taps)
        else:
            merged.append(_Pixels(start, 1, width, taps))
    return merged


def _inside(window: Window, axis: int, start: int, pixel: int, tap: int) -> int | None:
    """Where a tap of an output pixel reads, counted from the place of the tile's first output pixel in the image."""
    away = pixel * window.stride[axis] + tap * window.dilation[axis] - window.padding[axis]
    return away if 0 <= start * window.stride[axis] + away < window.size[axis] else None


@dataclass(frozen=True)
class _Tile:
    """Writes the code of one tile: a row of output pixels times a vector of channels."""

    workload: object
    window: Window
    buffers: dict
    x: View
    sink: object

    def write(self, n, channels: _Channels, number, row: tuple, column: tuple) -> None:
        """`row` and `column`: the tiles and which of them."""
        (rows, r), (columns, c) = row, column
        lanes, size = channels.lanes, columns.size
        y, x = rows.start + r, columns.start + c * size
        first, base = bind(channels.first + number * lanes), bind(channels.base + number * lanes)
        sums = scratch(size * lanes, "int32", registers=True)
        for pixel, j in product_of(range(size), range(ROWS)):
            at = j * lanes // ROWS
            store(sums, load(self.buffers["bias"], base + at, lanes // ROWS), pixel * lanes + at, lanes // ROWS)
        corner = bind(self.x.at(n, y * self.window.stride[0], x * self.window.stride[1], first))
        for away in sorted({a for _, _, a in columns.taps if a is not None}) + [None]:
            users = [(pixel, tap) for pixel, tap, a in columns.taps if a == away]
            if users:
                self._column(sums, lanes, corner, base, rows, away, users)
        for pixel in range(size):
            value = self._result(sums, pixel * lanes, base, lanes)
            self.sink.put(value, n, y, x + pixel, first, lanes)

    def _column(self, sums, lanes: int, corner, base, rows: _Pixels, away: int | None, users: list) -> None:
        """One column of the image, four rows at a time, times the weights of every output pixel that reads it."""
        quads, part = ceil(self.window.kernel[0] / ROWS), lanes // ROWS
        for quad in range(quads):
            words = _interleaved([self._bytes(lanes, corner, rows, away, ROWS * quad + i) for i in range(ROWS)], lanes)
            for (pixel, tap), (j, word) in product_of(users, enumerate(words)):
                row = base * (self.window.kernel[1] * quads) + (tap * quads + quad) * lanes + j * part
                at = pixel * lanes + j * part
                total = vnni(load(sums, at, part), word, load(self.buffers["weight"], row, part), part)
                store(sums, total, at, part)

    def _bytes(self, lanes: int, corner, rows: _Pixels, away: int | None, tap: int):
        """A row's bytes in the column: of the image, outside of it the zero point."""
        down = next((a for _, t, a in rows.taps if t == tap), None)
        if down is None or away is None:
            return constant(self.workload["zero_point"] if tap < self.window.kernel[0] else 0, "uint8", lanes)
        return bind(load(self.x.buffer, corner + down * self.x.row + away * self.x.column, lanes))

    def _result(self, sums, at: int, base, lanes: int):
        """uint8 of one pixel, channels in order."""
        part, work = lanes // ROWS, self.workload
        real = [cast(load(sums, at + j * part, part), "float32", part) * load(self.buffers["scale"], base + j * part, part)
                for j in range(ROWS)]
        return _packed([whole_steps(r, work["out_zero_point"], part, (work["low"], work["high"])) for r in real], lanes)


def _interleaved(rows: list, lanes: int) -> list:
    """Four vectors of bytes as four vectors of words, byte i of a word from row i."""
    from tvm import tirx

    pairs = [bind(_unpacked(*rows[i:i + 2], lanes, 1, high)) for high in (0, 1) for i in (0, 2)]
    words = [_unpacked(*pairs[i:i + 2], lanes, 2, high) for i in (0, 2) for high in (0, 1)]
    return [bind(tirx.reinterpret(f"int32x{lanes // ROWS}", word)) for word in words]


def _unpacked(first, second, lanes: int, size: int, high: int):
    """Elements of `size` bytes by turns from the lower or higher halves of each 128 bits of two vectors."""
    from tvm import tirx

    places = [16 * part + 8 * high + k for part in range(lanes // 16) for k in range(0, 8, size)]
    indices = [source * lanes + place + byte for place in places for source in (0, 1) for byte in range(size)]
    return tirx.Shuffle([first, second], indices)


def _packed(steps: list, lanes: int):
    """Four vectors of int32 as bytes, saturated, within each 128 bits in the order of the vectors."""
    from tvm import tirx
    from tvm.tirx.script.builder import ir as T

    to_words, to_bytes = (T.llvm_lookup_intrinsic_id(name) for name in PACKS[lanes])
    words = [T.call_llvm_pure_intrin(to_words, *steps[i:i + 2], dtype=f"int16x{lanes // 2}") for i in (0, 2)]
    return bind(tirx.reinterpret(f"uint8x{lanes}", T.call_llvm_pure_intrin(to_bytes, *words, dtype=f"int8x{lanes}")))


def _words(weight: Tensor, vectors: tuple[_Channels, ...]) -> Packed:
    """int8 [channels, 1, rows, columns] as words of four rows: [vectors, columns, rows / 4, lanes in word order]."""
    rows, columns = weight.shape[2:]
    quads = ceil(rows / ROWS)

    def word(stored, channel, tap, quad):
        values = [load(stored, (channel * rows + row) * columns + tap) if row < rows else constant(0, "int8")
                  for row in range(ROWS * quad, ROWS * quad + ROWS)]
        return pack_bytes(values)

    def body(stored, packed):
        for channel, at, lanes in _places(vectors, columns * quads):
            for tap, quad in product_of(range(columns), range(quads)):
                store(packed, word(stored, channel, tap, quad), at(tap * quads + quad))
    return Packed(function([weight, _room(vectors, columns * quads)], body), _room(vectors, columns * quads))


def _in_word_order(values: Tensor, vectors: tuple[_Channels, ...]) -> Packed:
    """[channels] as [vectors, lanes in word order]."""
    def body(stored, packed):
        for channel, at, lanes in _places(vectors, 1):
            store(packed, load(stored, channel), at(0))
    room = _room(vectors, 1, values.dtype)
    return Packed(function([values, room], body), room)


def _room(vectors: tuple[_Channels, ...], rows: int, dtype: str = "int32") -> Tensor:
    return Tensor((sum(channels.count * channels.lanes for channels in vectors) * rows,), dtype)


def _places(vectors: tuple[_Channels, ...], rows: int) -> Iterator[tuple]:
    """Loops over every vector's lanes: the channel, its place in a row of the packed tensor, and the lanes."""
    for channels in vectors:
        lanes, part = channels.lanes, channels.lanes // ROWS
        with loop(channels.count) as number, loop(ROWS) as j, loop(part) as i:
            channel = channels.first + number * lanes + 16 * (i // 4) + 4 * j + i % 4
            base = (channels.base + number * lanes) * rows
            yield bind(channel), lambda row, base=base, j=j, i=i: base + row * lanes + j * part + i, lanes
