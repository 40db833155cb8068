"""An image between borders of one value: channels, rows, columns, or all of them."""

from collections.abc import Iterator

from backends.channels import runs_of
from backends.emit import constant, load
from backends.nest import loop_unless_one, nest, shared
from backends.view import View, sides
from backends.workload import Lowering, one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """Float32 or uint8 images that grow, each by itself, by a value that their type has."""
    out, pad = workload.out, workload["pad"]
    fits = out.dtype == "float32" or out.dtype == "uint8" and _value(workload) in range(256)
    return fits and len(out.shape) == 4 and min(pad, default=0) >= 0 and not any(pad[6:])


def lower(workload, target, option) -> Lowering:
    """Rows and columns of borders are vectors of the value; a pixel of the image lies between its channels' borders."""
    x, out, (left, right, top, bottom, front, back) = workload["self"], workload.out, (*workload["pad"], *[0] * 6)[:6]
    batch, channels, height, width = sides(out)
    border = int(_value(workload)) if out.dtype == "uint8" else float(_value(workload))

    def body(buffers, sink):
        view = View.of(buffers["self"], x)

        def pixel(n, row, column, parts):
            for first, extent, inside in parts:
                for start, count, lanes in runs_of(extent, target.lanes):
                    with loop_unless_one(count) as turn:
                        c = first + start + turn * lanes
                        value = (load(view.buffer, view.at(n, row - top, column - left, c - front), lanes, view.channel)
                                 if inside else constant(border, out.dtype, lanes))
                        sink.put(value, n, row, column, c, lanes)
        with shared(target.threads_to_fetch(out.size // target.lanes)) as share:
            for y, rows, in_rows in _parts(top, height, bottom):
                for z, columns, in_columns in _parts(left, width, right) if in_rows else [(0, width, False)]:
                    with nest({"rows": batch * rows, "columns": columns, "channels": 1}, "pixels", share) as index:
                        n, row = (index["rows"] // rows, index["rows"] % rows) if batch > 1 else (0, index["rows"])
                        parts = _parts(front, channels, back) if in_columns else [(0, channels, False)]
                        pixel(n, y + row, z + index["columns"], parts)
    return Lowering(body)


def _value(workload):
    return dict(workload.arguments).get("value", 0)


def _parts(before: int, whole: int, after: int) -> Iterator[tuple[int, int, bool]]:
    """Where a border, the image and the other border begin, how far they extend, and which one is the image."""
    parts = (0, before, False), (before, whole - before - after, True), (whole - after, after, False)
    return (part for part in parts if part[1])
