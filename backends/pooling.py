"""Pools over windows and over whole images, vectors over channels."""

from collections.abc import Callable

from backends.channels import blocks_of
from backends.emit import constant, load, loop_between, scratch, store
from backends.nest import loop_unless_one, shared
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
    """The mean over all pixels: sums of a block of channels stay in registers. Each thread sums the pixels that it has likely
    computed and still has in its own core's cache; the sums of all are few."""
    (name, tensor), = workload.tensors
    batch, channels, height, width = sides(tensor)
    threads, pixels = target.threads_to_fetch(tensor.size // target.lanes), height * width
    blocks = blocks_of(channels, target.lanes, MEAN_VECTORS)

    def body(buffers, sink):
        with loop_unless_one(batch) as n:
            x, count = View.of(buffers[name], tensor).of_image(n).flat(), pixels
            if threads > 1:
                x, count = _sums_by_threads(x, blocks, pixels, channels, threads), threads
            _sums(x, blocks, 0, count, _means(sink, n, pixels))
    return Lowering(body)


def _sums_by_threads(x: View, blocks, pixels: int, channels: int, threads: int) -> View:
    """Each thread's sums, as pixels."""
    sums = scratch(threads * channels, "float32")
    with shared(threads) as share:
        _sums(x, blocks, *share.turns(pixels), _kept(sums, share.thread * channels))
    return View(sums, 0, 0, 0, channels, 1)


def _means(sink, n, pixels: int) -> Callable:
    def finish(total, c, lanes):
        sink.put(total * constant(1.0 / pixels, "float32", lanes), n, 0, 0, c, lanes)
    return finish


def _kept(buffer, begin) -> Callable:
    return lambda total, c, lanes: store(buffer, total, begin + c, lanes)


def _sums(x: View, blocks, begin, end, finish: Callable) -> None:
    """`finish(total, c, lanes)` takes the sums of the columns from `begin` to `end` of a flat view."""
    for block in blocks:
        with loop_unless_one(block.count) as number:
            first = block.first + number * block.width
            sums = scratch(block.width, "float32", registers=True)
            places, place = [], 0
            for vector in block.vectors:
                store(sums, constant(0.0, "float32", vector.lanes), place, vector.lanes)
                places, place = [*places, (vector, place)], place + vector.lanes
            with loop_between(begin, end) as column:
                for vector, place in places:
                    value = load(x.buffer, x.at(0, 0, column, first + vector.start), vector.lanes, x.channel)
                    store(sums, load(sums, place, vector.lanes) + value, place, vector.lanes)
            for vector, place in places:
                finish(load(sums, place, vector.lanes), first + vector.start, vector.lanes)
