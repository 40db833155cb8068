"""Codes of a codebook to dense weights, weight by weight: run once, when a network is loaded."""

from math import prod

from backends.codebook import Codes
from backends.emit import load, loop, store
from backends.workload import Lowering, one_way

PRIORITY = 0
options = one_way
ALONE = True


def serves(workload, target) -> bool:
    """Every workload."""
    return True


def inputs(workload, rng) -> dict:
    """Codes that point into the table, however many entries it has."""
    import numpy as np

    codes, table = Codes.of(workload), workload["table"]
    each = rng.integers(0, codes.entries, codes.outputs * codes.segments * codes.positions)
    stream = each[:, None] >> np.arange(codes.bits) & 1
    return {"codes": np.packbits(stream.astype(np.uint8), bitorder="little"),
            "table": rng.standard_normal(table.shape, np.float32)}


def lower(workload, target, option) -> Lowering:
    """Outputs, then inputs, then kernel positions."""
    codes = Codes.of(workload)
    inputs = prod(workload.out.shape[1:2])

    def body(buffers, sink):
        with loop(codes.outputs) as o, loop(inputs) as c, loop(codes.positions) as p:
            segment, place = c // codes.length, c % codes.length
            code = codes.read(buffers["codes"], o, segment, p)
            value = load(buffers["table"], codes.vector(segment, code) * codes.length + place)
            store(sink.out.buffer, value, (o * inputs + c) * codes.positions + p)
    return Lowering(body)
