"""Depthwise convolution in floats or integers: each channel convolved by itself, vectors over channels."""

from backends.convolution import last_step
from backends.emit import bind, cast, constant, function, load, loop, store
from backends.nest import loop_unless_one, shared
from backends.view import View
from backends.window import Window, bordered
from backends.windowed import Reduction, windowed, windowed_options
from backends.workload import Lowering, Packed, Tensor


def is_depthwise(workload) -> bool:
    """Whether every output channel has one input channel of its own."""
    return workload["weight"].shape[1] == 1 and workload["groups"] == workload["weight"].shape[0] > 1


def depthwise_options(workload, target) -> list[dict]:
    """See `windowed_options`."""
    return windowed_options(workload, Window.of(workload), target)


def depthwise(workload, target, option: dict, sum_dtype: str) -> Lowering:
    """The kernel of (x, weight, bias and scales). Integers outside the image are the zero point, not zero: then the
    image is copied with its border."""
    window, fill = Window.of(workload), dict(workload.arguments).get("zero_point", 0)
    packed = _by_taps(workload["weight"], sum_dtype)
    threads = target.threads_for(workload.out.size * window.taps // target.lanes)

    def body(buffers, sink):
        x, parameters = View.of(buffers["x"], workload["x"]), [buffers[name] for name, _ in workload.tensors[2:]]

        def tap(row, column, c, lanes):
            return bind(load(buffers["weight"], (row * window.kernel[1] + column) * window.inputs + c, lanes))

        def combine(total, x, weight, lanes):
            return total + cast(x, sum_dtype, lanes) * weight

        def finish(total, inside, n, y, x, c, lanes):
            values = [load(parameter, c, lanes) for parameter in parameters]
            sink.put(last_step(workload, total, values, lanes), n, y, x, c, lanes)
        reduction = Reduction(sum_dtype, lambda lanes: constant(0, sum_dtype, lanes), tap, combine, finish)
        with loop_unless_one(window.batch) as n:
            image = x.of_image(n)
            inner = window
            if fill:
                image, inner = bordered(image, workload["x"], window, fill, target.lanes, threads), window.within_border()
            with shared(threads) as share:
                windowed(inner, target.lanes, share, option, image, n, reduction)
    return Lowering(body, {"weight": packed})


def _by_taps(weight: Tensor, dtype: str) -> Packed:
    """[channels, 1, kernel] as [kernel, channels] in the type of the sums."""
    tensor = Tensor((weight.size // weight.shape[0], weight.shape[0]), dtype)
    return Packed(_packing, (weight, tensor), tensor)


def _packing(weight: Tensor, tensor: Tensor):
    taps, channels = tensor.shape

    def body(stored, packed):
        with loop(taps) as tap, loop(channels) as c:
            store(packed, cast(load(stored, c * taps + tap), tensor.dtype), tap * channels + c)
    return function([weight, tensor], body)
