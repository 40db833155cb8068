"""A copy to another layout, or to its place in a concatenation."""

from backends.elementwise import each_vector
from backends.emit import load
from backends.view import View
from backends.workload import Lowering

PRIORITY = 0


def serves(workload, target) -> bool:
    """Every type."""
    return len(workload.out.shape) in (2, 4)


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def lower(workload, target, option) -> Lowering:
    """Reads and writes vectors of channels, contiguous or not."""
    def body(buffers, sink):
        x = View.of(buffers["self"], workload["self"])
        each_vector(workload.out, target, lambda n, y, column, c, lanes: sink.put(
            load(x.buffer, x.at(n, y, column, c), lanes, x.channel), n, y, column, c, lanes))
    return Lowering(body)
