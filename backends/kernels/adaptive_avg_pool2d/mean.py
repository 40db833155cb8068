"""Global average pooling of float32 images: the mean of each channel, in vectors of partial sums."""

from backends.emit import bind, constant, function, load, loop, scratch, segments, store
from backends.workload import Lowering

PRIORITY = 0


def serves(workload, target) -> bool:
    """To one pixel."""
    return tuple(workload.out.shape[2:]) == (1, 1) and workload.out.dtype == "float32"


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def lower(workload, target, option) -> Lowering:
    """The kernel of (x, out)."""
    (_, image), = workload.tensors
    pixels = image.shape[2] * image.shape[3]

    def body(x, out):
        with loop(workload.out.size) as channel:
            total = scratch(1, "float32", registers=True)
            store(total, constant(0.0, "float32"), 0)
            for part in segments(pixels, target.lanes, 1):
                _add(x, total, channel * pixels + part.start, part.count, part.lanes)
            store(out, load(total, 0) * constant(1.0 / pixels, "float32"), channel)
    return Lowering(function([image, workload.out], body))


def _add(x, total, start, count: int, lanes: int) -> None:
    sums = scratch(lanes, "float32", registers=True)
    store(sums, constant(0.0, "float32", lanes), 0, lanes)
    with loop(count) as tile:
        store(sums, load(sums, 0, lanes) + load(x, start + tile * lanes, lanes), 0, lanes)
    for lane in range(lanes):
        store(total, bind(load(total, 0) + load(sums, lane)), 0)
