"""Block-sparse weights to dense ones, block by block: run once, when a network is loaded."""

from math import ceil

from backends.emit import bind, cast, constant, load, loop, scratch, store, when
from backends.workload import Lowering, one_way

PRIORITY = 0
options = one_way
ALONE = True


def serves(workload, target) -> bool:
    """Values of any type, at least one block."""
    return workload["values"].size > 0


def inputs(workload, rng) -> dict:
    """As many set bits as there are blocks."""
    import numpy as np

    values, (across, along, taps) = workload["values"], _grid(workload)
    bits = np.zeros(workload["bitmap"].size * 8, np.uint8)
    bits[rng.permutation(across * along * taps)[: values.shape[0]]] = 1
    numbers = rng.integers(-100, 100, values.shape).astype(values.dtype)
    return {"bitmap": np.packbits(bits, bitorder="little"), "values": numbers}


def lower(workload, target, option) -> Lowering:
    """Counts the set bits in front of each block."""
    from tvm import tirx

    values, (across, along, taps) = workload["values"], _grid(workload)
    kept, columns, rows = values.shape
    outputs, inputs = workload.out.shape[:2]

    def body(buffers, sink):
        place = scratch(1, "int32", registers=True)
        store(place, constant(0, "int32"), 0)
        with loop(across) as o, loop(along) as c, loop(taps) as tap:
            block = bind((o * along + c) * taps + tap)
            bit = bind((cast(load(buffers["bitmap"], block >> 3), "int32") >> (block & 7)) & 1)
            at = bind(tirx.min(load(place, 0), kept - 1) * (columns * rows))
            with loop(columns) as column, loop(rows) as row:
                value = load(buffers["values"], at + column * rows + row)
                inside = tirx.And(o * rows + row < outputs, c * columns + column < inputs)
                with when(inside):
                    to = ((o * rows + row) * inputs + c * columns + column) * taps + tap
                    store(sink.out.buffer, tirx.Select(bit > 0, value, constant(0, values.dtype)), to)
            store(place, load(place, 0) + bit, 0)
    return Lowering(body)


def _grid(workload) -> tuple[int, int, int]:
    """Blocks along outputs, inputs and the kernel's pixels."""
    (outputs, inputs), (_, columns, rows) = workload.out.shape[:2], workload["values"].shape
    return ceil(outputs / rows), ceil(inputs / columns), workload.out.size // (outputs * inputs)
