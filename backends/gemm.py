"""Register-tiled matrix product, the core of convolutions and dense layers.

out[o, p] = finish(sum_k w[o, k] * x[k, p]). Vectors run either over pixels p (a weight is broadcast) or,
where there are few pixels, over outputs o (an input is broadcast). A tile of sums stays in registers
over the whole of k, as in Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008.
"""

from collections.abc import Callable
from dataclasses import dataclass

from backends.emit import bind, constant, load, loop, scratch, segments, splat, store

REGISTERS = 16


@dataclass(frozen=True)
class Product:
    """Sizes of a product and its arithmetic. `step(sums, x, w, lanes)` is one multiply-accumulate;
    `x(k, p, lanes)` loads inputs (lanes over pixels), `weight(index, lanes)` packed weights;
    `finish(sums, o, p, lanes, over)` writes results whose lanes run over "pixels" or "outputs"."""

    depth: int
    pixels: int
    outputs: int
    lanes: int
    sum_dtype: str
    step: Callable
    x: Callable
    weight: Callable
    finish: Callable
    parallel: bool = False


def over_pixels(product: Product, rows: int) -> None:
    """Vectors over pixels; weights are packed as [outputs / rows, depth, rows]."""
    full, rest = divmod(product.outputs, rows)
    vectors = max(1, REGISTERS // rows)
    for part in segments(product.pixels, product.lanes, vectors):
        if full:
            with loop(full, product.parallel) as block, loop(part.count) as tile:
                _pixel_tile(product, block, rows, rows, part, part.start + tile * part.width)
        if rest:
            with loop(part.count) as tile:
                _pixel_tile(product, full, rows, rest, part, part.start + tile * part.width)


def _pixel_tile(product: Product, block, rows: int, used: int, part, pixel) -> None:
    lanes, vectors = part.lanes, part.vectors
    sums = scratch(used * vectors * lanes, product.sum_dtype, registers=True)
    places = [(row, v, (row * vectors + v) * lanes) for row in range(used) for v in range(vectors)]
    for _, _, place in places:
        store(sums, constant(0, product.sum_dtype, lanes), place, lanes)
    with loop(product.depth) as k:
        xs = [bind(product.x(k, pixel + v * lanes, lanes)) for v in range(vectors)]
        for row, v, place in places:
            weight = splat(product.weight((block * product.depth + k) * rows + row, 1), lanes)
            store(sums, product.step(load(sums, place, lanes), xs[v], weight, lanes), place, lanes)
    for row, v, place in places:
        product.finish(load(sums, place, lanes), block * rows + row, pixel + v * lanes, lanes, "pixels")


def over_outputs(product: Product, pixels_a_tile: int) -> None:
    """Vectors over outputs; weights are packed as [padded outputs / lanes, depth, lanes], zeros at the end."""
    lanes = product.lanes
    full, rest = divmod(product.outputs, lanes)
    for part in segments(product.pixels, 1, pixels_a_tile):
        for blocks, first, used in ((full, 0, lanes), (1 if rest else 0, full, rest)):
            if blocks:
                with loop(blocks, product.parallel and blocks > 1) as block, loop(part.count) as tile:
                    _output_tile(product, first + block, used, part.width, part.start + tile * part.width)


def _output_tile(product: Product, block, used: int, width: int, pixel) -> None:
    lanes = product.lanes
    sums = scratch(width * lanes, product.sum_dtype, registers=True)
    for p in range(width):
        store(sums, constant(0, product.sum_dtype, lanes), p * lanes, lanes)
    with loop(product.depth) as k:
        weight = bind(product.weight((block * product.depth + k) * lanes, lanes))
        for p in range(width):
            x = splat(product.x(k, pixel + p, 1), lanes)
            store(sums, product.step(load(sums, p * lanes, lanes), x, weight, lanes), p * lanes, lanes)
    for p in range(width):
        if used == lanes:
            product.finish(load(sums, p * lanes, lanes), block * lanes, pixel + p, lanes, "outputs")
        else:
            for lane in range(used):
                product.finish(load(sums, p * lanes + lane), block * lanes + lane, pixel + p, 1, "outputs")
