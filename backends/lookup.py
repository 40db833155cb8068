"""Tables of 256 bytes applied to uint8 tensors, as many numbers at once as the processor can look up."""

from collections.abc import Callable

from backends.elementwise import each_vector
from backends.emit import load, loop, segments, store
from backends.view import View, sides
from backends.workload import Lowering


def lookup(workload, target, width: int, finder: Callable) -> Lowering:
    """The kernel of (x, table): `finder(table)` gives a function of (`lanes` numbers, lanes); lanes are at most `width`."""
    def body(buffers, sink):
        find, x = finder(buffers["table"]), View.of(buffers["x"], workload["x"])
        if _is_whole(sink.out, workload.out) and workload["x"].layout == workload.out.layout:
            _flat(buffers["x"], sink.out.buffer, workload.out.size, width, find)
            return

        def visit(n, y, column, c, lanes):
            for lane in range(lanes):
                sink.put(find(load(x.buffer, x.at(n, y, column, c + lane)), 1), n, y, column, c + lane, 1)
        each_vector(workload.out, target, visit)
    return Lowering(body)


def _is_whole(out: View, tensor) -> bool:
    """Whether the results are a tensor of their own, not some channels of a larger one."""
    _, channels, height, width = sides(tensor)
    return out.image == channels * height * width


def _flat(x, out, size: int, width: int, find: Callable) -> None:
    for part in segments(size, width):
        lanes = part.lanes if part.lanes == width else 1
        with loop(part.count * (part.lanes // lanes)) as i:
            at = part.start + i * lanes
            store(out, find(load(x, at, lanes), lanes), at, lanes)
