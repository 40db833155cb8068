"""Pools over windows and over whole images, vectors over channels."""

from collections.abc import Callable

from backends.channels import blocks_of
from backends.emit import constant, load, loop, scratch, store
from backends.nest import loop_unless_one, nest, shared
from backends.view import View, sides
from backends.window import Window
from backends.windowed import Reduction, windowed, windowed_options
from backends.workload import Lowering, Workload

MEAN_VECTORS = 4


def pool_window(workload: Workload) -> Window:
    """The window of a pool: every channel by itself."""
    named = dict(workload.arguments)
    stride = named.get("stride") or named["kernel_size"]
    sizes = [_pair(tuple(value)) for value in
             (named["kernel_size"], stride, named.get("padding") or (0, 0), named.get("dilation") or (1, 1))]
    (_, tensor), = workload.tensors
    batch, channels, *size = sides(tensor)
    return Window(batch, channels, channels, tuple(size), *sizes, tuple(workload.out.shape[2:]), channels)


def pool_options(workload: Workload, target) -> list[dict]:
    """See `windowed_options`."""
    return windowed_options(workload, pool_window(workload), target)


def pool(workload, target, option: dict, start: Callable, combine: Callable, last: Callable,
         dtype: str = "") -> Lowering:
    """The kernel of (x): `last(total, taps in the image, lanes)` of the combined window, whose type is `dtype`, the result's
    if empty."""
    window, ((name, tensor),) = pool_window(workload), workload.tensors
    threads = target.threads_for(workload.out.size * window.taps // target.lanes)

    def body(buffers, sink):
        def finish(total, inside, n, y, x, c, lanes):
            sink.put(last(total, inside, lanes), n, y, x, c, lanes)
        reduction = Reduction(dtype or workload.out.dtype, start, lambda *place: None,
                              lambda total, x, tap, lanes: combine(total, x, lanes), finish)
        with loop_unless_one(window.batch) as n:
            image = View.of(buffers[name], tensor).of_image(n)
            with shared(threads) as share:
                windowed(window, target.lanes, share, option, image, n, reduction)
    return Lowering(body)


def _pair(sides: tuple[int, ...]) -> tuple[int, int]:
    return sides if len(sides) == 2 else (sides[0], sides[0])


def global_mean(workload: Workload, target) -> Lowering:
    """The mean over all pixels: sums of a block of channels stay in registers."""
    (name, tensor), = workload.tensors
    batch, channels, height, width = sides(tensor)

    def body(buffers, sink):
        with loop_unless_one(batch) as n:
            x = View.of(buffers[name], tensor).of_image(n)
            with shared(target.threads_for(tensor.size // target.lanes)) as share:
                for block in blocks_of(channels, target.lanes, MEAN_VECTORS):
                    with nest({"channels": block.count, "rows": 1, "columns": 1}, "channels", share) as index:
                        _block(x, height, width, block, block.first + index["channels"] * block.width, n, sink)
    return Lowering(body)


def _block(x: View, height: int, width: int, block, first, n, sink) -> None:
    sums = scratch(sum(v.lanes for v in block.vectors), "float32", registers=True)
    places, place = [], 0
    for vector in block.vectors:
        store(sums, constant(0.0, "float32", vector.lanes), place, vector.lanes)
        places, place = [*places, (vector, place)], place + vector.lanes
    with loop(height) as y, loop(width) as column:
        for vector, place in places:
            value = load(x.buffer, x.at(0, y, column, first + vector.start), vector.lanes, x.channel)
            store(sums, load(sums, place, vector.lanes) + value, place, vector.lanes)
    for vector, place in places:
        mean = load(sums, place, vector.lanes) * constant(1.0 / (height * width), "float32", vector.lanes)
        sink.put(mean, n, 0, 0, first + vector.start, vector.lanes)
