"""Float32 images of few channels, plane by plane as they enter a network, to uint8 channels last: vectors over pixels."""

from backends.emit import load, loop, segments, store
from backends.kernels.quantize import elementwise
from backends.nest import loop_unless_one
from backends.view import View
from backends.workload import CHANNELS_LAST, PLAIN, Lowering, one_way

PRIORITY = 1
FEW = 4
options = one_way
ALONE = True


def serves(workload, target) -> bool:
    """Images in planes of at most four channels."""
    x, out = workload["x"], workload.out
    return len(x.shape) == 4 and x.shape[1] <= FEW and (x.layout, out.layout) == (PLAIN, CHANNELS_LAST)


def lower(workload, target, option) -> Lowering:
    """The pixels of an image are a row in either layout."""
    (batch, channels, height, width), named = workload.out.shape, dict(workload.arguments)

    def body(buffers, sink):
        x = View.of(buffers["x"], workload["x"])
        with loop_unless_one(batch) as n:
            for part in segments(height * width, target.lanes):
                with loop(part.count) as tile:
                    pixel = part.start + tile * part.lanes
                    planes = [elementwise.value(named, part.lanes, load(x.buffer, x.at(n, 0, 0, c) + pixel, part.lanes))
                              for c in range(channels)]
                    _store(sink.out, planes, n, pixel, part.lanes)
    return Lowering(body)


def _store(out: View, planes: list, n, pixel, lanes: int) -> None:
    """Pixels of all planes side by side; one by one where they are some channels of a larger tensor."""
    from tvm import tirx

    at, channels = out.at(n, 0, 0, 0) + pixel * out.column, len(planes)
    if out.column == channels and lanes > 1 < channels:
        together = tirx.Shuffle(planes, [c * lanes + i for i in range(lanes) for c in range(channels)])
        store(out.buffer, together, at, lanes * channels)
        return
    for c, plane in enumerate(planes):
        store(out.buffer, plane, at + c, lanes, out.column)
