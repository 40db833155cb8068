"""Sparse weights to dense ones, bit by bit: run once, when a network is loaded."""

from backends.emit import cast, constant, load, loop, scratch, store
from backends.workload import Lowering, one_way

PRIORITY = 0
options = one_way
ALONE = True


def serves(workload, target) -> bool:
    """Values of any type, at least one."""
    return workload["values"].size > 0


def inputs(workload, rng) -> dict:
    """As many set bits as there are values."""
    import numpy as np

    bits = np.zeros(workload["bitmap"].size * 8, np.uint8)
    bits[rng.permutation(workload.out.size)[: workload["values"].size]] = 1
    values = rng.integers(-100, 100, workload["values"].size).astype(workload["values"].dtype)
    return {"bitmap": np.packbits(bits, bitorder="little"), "values": values}


def lower(workload, target, option) -> Lowering:
    """Counts the set bits in front of each element."""
    from tvm import tirx

    values = workload["values"]

    def body(buffers, sink):
        place = scratch(1, "int32", registers=True)
        store(place, constant(0, "int32"), 0)
        with loop(workload.out.size) as i:
            bit = (cast(load(buffers["bitmap"], i >> 3), "int32") >> (i & 7)) & 1
            value = load(buffers["values"], tirx.min(load(place, 0), values.size - 1))
            store(sink.out.buffer, tirx.Select(bit > 0, value, constant(0, values.dtype)), i)
            store(place, load(place, 0) + bit, 0)
    return Lowering(body)
