"""Convolutions and dense layers as products, in any arithmetic: what the kernel files share.

They give the arithmetic; batch, groups, border, tiling and the last step are here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from backends.channels import blocks_of
from backends.emit import clamp, load
from backends.epilogue import integer_epilogue
from backends.nest import loop_unless_one, shared
from backends.packing import with_sums
from backends.product import Arithmetic, part_of, product, product_options, threads_for
from backends.sink import Sink
from backends.view import View
from backends.window import Window, bordered, regrouped
from backends.workload import CHANNELS_LAST, Lowering, Packed


@dataclass(frozen=True)
class Ending:
    """What becomes of each sum: `value(buffers, sums, y, x, c, lanes)` gives the results of channels c on of one pixel,
    from the workload's tensors and those `packed` for it."""

    value: Callable
    packed: dict[str, Packed] = field(default_factory=dict)


def convolution_options(workload, target, arithmetic: Arithmetic) -> list[dict]:
    """See `product_options`."""
    window = _window(workload, arithmetic)
    return product_options(part_of(window, threads_for(window, target, arithmetic)), target, arithmetic)


def convolution(workload, target, option: dict, arithmetic: Arithmetic, ending: Ending | None = None,
                weights: Callable | None = None) -> Lowering:
    """The product of (x, weight, bias and scales); it ends in `last_step` if no other ending is given. `weights(buffers,
    packed tensor, blocks)` gives others than the packed ones in their place."""
    window, ending = _window(workload, arithmetic), ending or plain_ending(workload)
    blocks = blocks_of(window.group_outputs, target.lanes, option["vectors"])
    packed = arithmetic.pack(workload["weight"], blocks, window.groups)
    fill = dict(workload.arguments).get("zero_point", 0)
    threads = threads_for(window, target, arithmetic)

    def body(buffers, sink):
        image, results = merged_views(workload, buffers, sink)
        with loop_unless_one(window.batch) as n:
            x = _image(image.of_image(n), workload, window, arithmetic, fill, target.lanes, threads)
            with shared(threads) as share, loop_unless_one(window.groups) as g:
                factors = weights(buffers, packed.tensor, blocks) if weights else buffers["weight"]
                inputs = ceil(window.group_inputs / arithmetic.chunk) * arithmetic.chunk
                base = g * (packed.tensor.size // window.groups)
                product(window, arithmetic, target.lanes, share, option, x.from_channel(g * inputs),
                        factors, base, g * window.group_outputs, finisher(buffers, results, n, ending))
    corrected = {"bias": with_sums(workload["bias"], workload["weight"], arithmetic.offset)} if arithmetic.offset else {}
    return Lowering(body, {"weight": packed, **corrected, **ending.packed})


def plain_ending(workload) -> Ending:
    """The op's own last step."""
    def value(buffers, sums, y, x, c, lanes):
        parameters = [load(buffers[name], c, lanes) for name in workload.parameters]
        return last_step(workload, sums, parameters, lanes)
    return Ending(value)


def _window(workload, arithmetic: Arithmetic) -> Window:
    return Window.of(workload).columns_merged if arithmetic.merged else merged_window(workload)


def merged_window(workload) -> Window:
    """The workload's window: where each output pixel reads its own place, all pixels of all images are one row."""
    window, (batch, _, *size) = Window.of(workload), workload["x"].shape
    mergeable = batch == 1 or not size or workload["x"].layout == CHANNELS_LAST
    return window.flat() if window.plain and mergeable else window


def merged_views(workload, buffers: dict, sink) -> tuple[View, Sink]:
    """The input's view and the sink, flat where the merged window is."""
    image, window = View.of(buffers["x"], workload["x"]), merged_window(workload)
    if window.batch < workload["x"].shape[0] or window.out != Window.of(workload).out:
        return image.flat(), sink.flat()
    return image, sink


def finisher(buffers: dict, sink, n, ending: Ending):
    """A function that takes sums of image n through the last step to the sink: `finish(sums, y, x, c, lanes)`."""
    def finish(sums, y, x, c, lanes):
        sink.put(ending.value(buffers, sums, y, x, c, lanes), n, y, x, c, lanes)
    return finish


def _image(x: View, workload, window: Window, arithmetic: Arithmetic, fill, lanes: int, threads: int) -> View:
    """The image with its border; its channels are regrouped where the arithmetic reads several at once."""
    tensor, whole = workload["x"], window.group_inputs % arithmetic.chunk == 0 and x.channel == 1
    if arithmetic.merged:
        return bordered(x, tensor, Window.of(workload), fill, lanes, threads, spare=arithmetic.chunk)
    if arithmetic.chunk == 1 or whole:
        return bordered(x, tensor, window, fill, lanes, threads)
    return regrouped(x, tensor, window, arithmetic.chunk, fill, lanes)


def last_step(workload, sums, parameters: list, lanes: int):
    """Bias and clamp, or bias and requantisation, as the workload's op defines."""
    if workload["x"].dtype == "float32":
        return clamp(sums + parameters[0], workload["low"], workload["high"], "float32", lanes)
    bias, scale = parameters
    return integer_epilogue(sums + bias, scale, workload, lanes)
