"""Convolutions and dense layers as register-tiled products, in any arithmetic.

The kernel files give the arithmetic: how inputs are unfolded and weights packed, one
multiply-accumulate, and the last step. What they share is here: batch, groups, padding, tiling.
"""

from collections.abc import Callable
from dataclasses import dataclass

from backends.emit import bind, cast, clamp, constant, function, load, loop, segments, splat, store
from backends.epilogue import integer_epilogue
from backends.gemm import Product, over_outputs, over_pixels
from backends.window import Window, padded_image, pixel_at
from backends.workload import Lowering

ROWS = 8


@dataclass(frozen=True)
class Arithmetic:
    """`unfold(image, window, group, lanes)` gives columns of `unfolded` numbers, `depth(window)` of them a
    pixel; `pack(weight, rows, groups)` packs weights; `read` and `step` are in the sums' type."""

    unfold: Callable
    unfolded: str
    depth: Callable
    pack: Callable
    sum_dtype: str
    step: Callable
    read: Callable = lambda value, lanes: value


def tile_options(workload, target) -> list[dict]:
    """Vectors over pixels, unless there are fewer pixels than lanes and enough outputs."""
    window = Window.of(workload)
    if window.pixels < target.lanes and window.group_outputs > window.pixels:
        return [{"over": "outputs", "tile": ROWS}]
    return [{"over": "pixels", "tile": min(ROWS, window.group_outputs)}]


def product_lowering(workload, target, option: dict, arithmetic: Arithmetic) -> Lowering:
    """The kernel of (x, packed weight, bias and scales, out) for a tiling of `tile_options`."""
    window, over = Window.of(workload), option["over"]
    rows = option["tile"] if over == "pixels" else target.lanes
    packed = arithmetic.pack(workload["weight"], rows, window.groups)
    plain = window.plain and workload["x"].dtype == arithmetic.unfolded

    def body(x, weights, *rest):
        with loop(window.batch) as n:
            start = n * window.inputs * window.size[0] * window.size[1]
            fill = dict(workload.arguments).get("zero_point", 0)
            image = padded_image(x, window, workload["x"].dtype, fill, target.lanes, start)
            with loop(window.groups) as g:
                source = image.buffer if plain else arithmetic.unfold(image, window, g, target.lanes)
                base = image.start + g * window.group_inputs * image.pitch if plain else 0
                product = _product(workload, target, arithmetic, window, rest, n, g,
                                   lambda i, lanes: load(source, base + i, lanes),
                                   lambda i, lanes: load(weights, g * (packed.tensor.size // window.groups) + i, lanes))
                (over_pixels if over == "pixels" else over_outputs)(product, option["tile"])

    tensors = dict(workload.tensors) | {"weight": packed.tensor}
    return Lowering(function([*tensors.values(), workload.out], body), {"weight": packed})


def _product(workload, target, arithmetic: Arithmetic, window: Window, rest, n, g, source, weight) -> Product:
    *parameters, out = rest

    def finish(sums, o, p, lanes, over):
        channel, across = g * window.group_outputs + o, over == "outputs" and lanes > 1
        values = [load(v, channel, lanes) if across else splat(load(v, channel), lanes) for v in parameters]
        to = (n * window.outputs + channel) * window.pixels + p
        store(out, last_step(workload, sums, values, lanes), to, lanes, window.pixels if across else 1)

    return Product(arithmetic.depth(window), window.pixels, window.group_outputs, target.lanes,
                   arithmetic.sum_dtype, arithmetic.step,
                   lambda k, p, lanes: arithmetic.read(source(k * window.pixels + p, lanes), lanes),
                   lambda i, lanes: arithmetic.read(weight(i, lanes), lanes), finish, target.threads > 1)


def last_step(workload, sums, parameters: list, lanes: int):
    """Bias and clamp, or bias and requantisation, as the workload's op defines."""
    if workload["x"].dtype == "float32":
        return clamp(sums + parameters[0], workload["low"], workload["high"], "float32", lanes)
    bias, scale, shift = parameters
    return integer_epilogue(sums + bias, scale, shift, workload, lanes)


def is_depthwise(workload) -> bool:
    """Whether every output channel has one input channel of its own."""
    return workload["weight"].shape[1] == 1 and workload["groups"] == workload["weight"].shape[0]


def depthwise_lowering(workload, target, sum_dtype: str) -> Lowering:
    """The kernel of (x, weight, bias and scales, out): one channel at a time, its kernel's weights in registers,
    vectors along rows. It is bound by memory, so nothing is unfolded and weights are not packed."""
    window, lanes = Window.of(workload), target.lanes
    taps = [(r, s) for r in range(window.kernel[0]) for s in range(window.kernel[1])]

    def body(x, weights, *rest):
        *parameters, out = rest
        with loop(window.batch) as n:
            start = n * window.inputs * window.size[0] * window.size[1]
            fill = dict(workload.arguments).get("zero_point", 0)
            image = padded_image(x, window, workload["x"].dtype, fill, lanes, start)
            with loop(window.inputs, target.threads > 1) as c:
                _depthwise_channel(workload, window, lanes, sum_dtype, image, weights, parameters, out, n, c, taps)
    tensors = [tensor for _, tensor in workload.tensors]
    return Lowering(function([*tensors, workload.out], body))


def _depthwise_channel(workload, window, lanes, sum_dtype, image, weights, parameters, out, n, c, taps) -> None:
    kernel = [bind(cast(load(weights, c * len(taps) + i), sum_dtype)) for i in range(len(taps))]
    for part in segments(window.out[1], lanes, 1):
        with loop(window.out[0]) as y, loop(part.count) as tile:
            x0, width = part.start + tile * part.width, part.lanes
            sums = constant(0, sum_dtype, width)
            for (r, s), weight in zip(taps, kernel):
                pixels = load(image.buffer, pixel_at(image, window, c, y, x0, r, s), width, window.stride[1])
                sums = sums + cast(pixels, sum_dtype, width) * splat(weight, width)
            values = [splat(load(v, c), width) for v in parameters]
            to = ((n * window.inputs + c) * window.out[0] + y) * window.out[1] + x0
            store(out, last_step(workload, bind(sums), values, width), to, width)
