"""A copy to another layout, or to its place in a concatenation."""

from backends.elementwise import each_vector
from backends.emit import load
from backends.view import View
from backends.workload import Lowering, one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """Every type."""
    return len(workload.out.shape) in (2, 4)


def lower(workload, target, option) -> Lowering:
    """Reads and writes vectors of channels, contiguous or not."""
    def body(buffers, sink):
        x = View.of(buffers["self"], workload["self"])
        each_vector(workload.out, target, lambda n, y, column, c, lanes: sink.put(
            load(x.buffer, x.at(n, y, column, c), lanes, x.channel), n, y, column, c, lanes))
    return Lowering(body)
