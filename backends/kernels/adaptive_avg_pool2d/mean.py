"""Global average pooling of float32 images: the mean of each channel."""

from backends.channels import blocks_of
from backends.emit import constant, load, loop, scratch, store
from backends.nest import loop_unless_one, nest, shared
from backends.view import View, sides
from backends.workload import Lowering

PRIORITY = 0
VECTORS = 4


def serves(workload, target) -> bool:
    """To one pixel."""
    return tuple(workload.out.shape[2:]) == (1, 1) and workload.out.dtype == "float32"


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def lower(workload, target, option) -> Lowering:
    """Sums of a block of channels stay in registers over all pixels."""
    (name, tensor), = workload.tensors
    batch, channels, height, width = sides(tensor)

    def body(buffers, sink):
        with loop_unless_one(batch) as n:
            x = View.of(buffers[name], tensor).of_image(n)
            with shared(target.threads_for(tensor.size // target.lanes)) as share:
                for block in blocks_of(channels, target.lanes, VECTORS):
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
