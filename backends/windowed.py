"""Depthwise convolutions and pools: each channel by itself, vectors over channels, no border in memory.

A tile of neighbouring output pixels shares the inputs it loads. Taps outside the image are left out:
columns when the code is written (tiles at the edges get code of their own), rows by the bounds of a loop.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil

from backends.channels import vectors_of
from backends.emit import bind, load, loop_between, scratch, store
from backends.nest import Share, nest
from backends.product import SMALL_WORK
from backends.view import View
from backends.window import Window


@dataclass(frozen=True)
class Reduction:
    """`start(lanes)` is the empty result; `tap(row, column, c, lanes)` what a tap brings with it, loaded once (None if
    nothing); `combine(total, x, tap, lanes)`; `finish(total, inside, n, y, x, c, lanes)` takes the result of a pixel,
    `inside` the number of taps in the image; `dtype` is the result's."""

    dtype: str
    start: Callable
    tap: Callable
    combine: Callable
    finish: Callable


@dataclass(frozen=True)
class _Columns:
    """`count` tiles of `size` pixels from `start` on; `taps` are the (pixel, kernel column) that lie in the image."""

    start: int
    count: int
    size: int
    taps: tuple[tuple[int, int], ...]


def windowed_options(workload, window: Window, target) -> list[dict]:
    """Tiles of a few widths, channels or pixels in the outer loop; what fits the registers."""
    room = max(1, target.registers - 2 - window.kernel[1])
    widths = sorted({min(window.out[1], room, size) for size in (2, 4, 7, 8, 14)}, reverse=True)
    preferred = min(widths, key=lambda w: (ceil(window.out[1] / w) * w - window.out[1]) / window.out[1] + 1 / w)
    ordered = [preferred] + [w for w in widths if w != preferred][:2]
    options = [{"columns": w, "outer": outer} for w in ordered for outer in ("channels", "pixels")]
    return options if workload.out.size * window.taps // target.lanes >= SMALL_WORK else options[:1]


def windowed(window: Window, lanes: int, share: Share | None, option: dict, image: View, n, reduction: Reduction) -> None:
    """Writes the kernel of image n (already in the view)."""
    for first, count, width in _channels(window.inputs, lanes):
        for columns in _columns(window, option["columns"]):
            extents = {"channels": count, "rows": window.out[0], "columns": columns.count}
            with nest(extents, option["outer"], share) as index:
                c = bind(first + index["channels"] * width)
                x0 = columns.start + index["columns"] * columns.size
                _tile(window, width, image, n, index["rows"], x0, columns, c, reduction)


def _channels(channels: int, lanes: int) -> Iterator[tuple[int, int, int]]:
    """(first channel, vectors, lanes)."""
    if channels >= lanes:
        yield 0, channels // lanes, lanes
    for vector in vectors_of(channels, lanes)[channels // lanes:]:
        yield vector.start, 1, vector.lanes


def _columns(window: Window, size: int) -> list[_Columns]:
    """Tiles of a row; neighbours that read the same taps become one loop."""
    merged: list[_Columns] = []
    for start in range(0, window.out[1], size):
        width = min(size, window.out[1] - start)
        taps = tuple((p, s) for p in range(width) for s in range(window.kernel[1])
                     if 0 <= _column(window, start + p, s) < window.size[1])
        last = merged[-1] if merged else None
        if last and (last.size, last.taps) == (width, taps):
            merged[-1] = _Columns(last.start, last.count + 1, width, taps)
        else:
            merged.append(_Columns(start, 1, width, taps))
    return merged


def _column(window: Window, x, s):
    return x * window.stride[1] + s * window.dilation[1] - window.padding[1]


def _tile(window: Window, lanes: int, image: View, n, y, x0, columns: _Columns, c, reduction: Reduction) -> None:
    totals = scratch(columns.size * lanes, reduction.dtype, registers=True)
    for pixel in range(columns.size):
        store(totals, reduction.start(lanes), pixel * lanes, lanes)
    low, high = rows_inside(window, y)
    with loop_between(low, high) as r:
        row = bind(image.at(0, y * window.stride[0] + r * window.dilation[0] - window.padding[0],
                            x0 * window.stride[1], c))
        taps = {s: reduction.tap(r, s, c, lanes) for s in {s for _, s in columns.taps}}
        loaded: dict[int, object] = {}
        for pixel, s in columns.taps:
            away = pixel * window.stride[1] + s * window.dilation[1] - window.padding[1]
            if away not in loaded:
                loaded[away] = bind(load(image.buffer, row + away * image.column, lanes, image.channel))
            total = reduction.combine(load(totals, pixel * lanes, lanes), loaded[away], taps[s], lanes)
            store(totals, total, pixel * lanes, lanes)
    for pixel in range(columns.size):
        inside = (high - low) * sum(p == pixel for p, _ in columns.taps)
        reduction.finish(load(totals, pixel * lanes, lanes), inside, n, y, x0 + pixel, c, lanes)


def rows_inside(window: Window, y):
    """The first kernel row that lies in the image, and the one after the last, for output row y."""
    from tvm import tirx

    step, top = window.dilation[0], y * window.stride[0] - window.padding[0]
    if not any(window.border[0]):
        return 0, window.kernel[0]
    low = tirx.max(0, (step - 1 - top) // step)
    high = tirx.min(window.kernel[0], (window.size[0] - top + step - 1) // step)
    return bind(low), bind(high)
