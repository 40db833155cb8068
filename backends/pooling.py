"""Pooling over windows: a border around the image, then a reduction over the kernel, vectors along rows."""

from collections.abc import Callable

from backends.emit import bind, constant, function, load, loop, segments, store
from backends.window import Window, padded_image, pixel_at
from backends.workload import Lowering, Workload


def pool_window(workload: Workload) -> Window:
    """The window of a pool, its border wide enough for what ceil mode adds at the far edges."""
    named = dict(workload.arguments)
    kernel = tuple(named["kernel_size"])
    stride, padding = tuple(named.get("stride") or kernel), tuple(named.get("padding") or (0, 0))
    (_, image), = workload.tensors
    batch, channels, *size = image.shape
    return Window(batch, channels, channels, tuple(size), kernel, _pair(stride), _pair(padding),
                  _pair(tuple(named.get("dilation") or (1, 1))), tuple(workload.out.shape[2:]), channels)


def pool_lowering(workload, target, fill: float, combine: Callable, last: Callable) -> Lowering:
    """The kernel of (x, out): last(combined window, its pixels inside the image, lanes). Pixels past the
    image take `fill`."""
    window = pool_window(workload)
    reach = [(window.out[i] - 1) * window.stride[i] + (window.kernel[i] - 1) * window.dilation[i] + 1 for i in (0, 1)]
    over = max([reach[i] - window.size[i] - window.padding[i] for i in (0, 1)] + list(window.padding))
    wide = Window(**{**vars(window), "padding": (over, over)})
    shift = [over - window.padding[0], over - window.padding[1]]

    def body(x, out):
        with loop(window.batch) as n:
            start = n * window.inputs * window.size[0] * window.size[1]
            image = padded_image(x, wide, workload.out.dtype, fill, target.lanes, start)
            with loop(window.inputs, target.threads > 1) as c, loop(window.out[0]) as y:
                for part in segments(window.out[1], target.lanes, 1):
                    with loop(part.count) as tile:
                        x0 = part.start + tile * part.lanes
                        total = _reduced(image, window, shift, combine, c, y, x0, part.lanes)
                        inside = _inside(window, y, x0, part.lanes)
                        to = ((n * window.inputs + c) * window.out[0] + y) * window.out[1] + x0
                        store(out, last(total, inside, part.lanes), to, part.lanes)
    (_, tensor), = workload.tensors
    return Lowering(function([tensor, workload.out], body))


def _reduced(image, window: Window, shift: list[int], combine: Callable, c, y, x0, lanes: int):
    total = None
    for r in range(window.kernel[0]):
        for s in range(window.kernel[1]):
            at = pixel_at(image, window, c, y, x0, r, s) + shift[0] * image.row + shift[1]
            value = load(image.buffer, at, lanes, window.stride[1])
            total = value if total is None else combine(total, value)
    return bind(total)


def _inside(window: Window, y, x0, lanes: int):
    """The pixels of each lane's window that lie in the image (for pools without padding), int32."""
    from tvm import tirx

    rows = tirx.min(window.kernel[0], window.size[0] - y * window.stride[0])
    first = tirx.Ramp(x0 * window.stride[1], window.stride[1], lanes) if lanes > 1 else x0 * window.stride[1]
    left = constant(window.size[1], "int32", lanes) - first
    columns = tirx.min(constant(window.kernel[1], "int32", lanes), left)
    return columns * (tirx.Broadcast(rows, lanes) if lanes > 1 else rows)


def _pair(sides: tuple[int, ...]) -> tuple[int, int]:
    return sides if len(sides) == 2 else (sides[0], sides[0])
