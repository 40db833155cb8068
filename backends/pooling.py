"""Pools over windows, vectors over channels."""

from collections.abc import Callable

from backends.nest import loop_unless_one, shared
from backends.view import View, sides
from backends.window import Window
from backends.windowed import Reduction, windowed, windowed_options
from backends.workload import Lowering, Workload


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


def pool(workload, target, option: dict, start: Callable, combine: Callable, last: Callable) -> Lowering:
    """The kernel of (x): `last(total, taps in the image, lanes)` of the combined window."""
    window, ((name, tensor),) = pool_window(workload), workload.tensors
    threads = target.threads_for(workload.out.size * window.taps // target.lanes)

    def body(buffers, sink):
        def finish(total, inside, n, y, x, c, lanes):
            sink.put(last(total, inside, lanes), n, y, x, c, lanes)
        reduction = Reduction(workload.out.dtype, start, lambda *place: None,
                              lambda total, x, tap, lanes: combine(total, x), finish)
        with loop_unless_one(window.batch) as n:
            image = View.of(buffers[name], tensor).of_image(n)
            with shared(threads) as share:
                windowed(window, target.lanes, share, option, image, n, reduction)
    return Lowering(body)


def _pair(sides: tuple[int, ...]) -> tuple[int, int]:
    return sides if len(sides) == 2 else (sides[0], sides[0])
