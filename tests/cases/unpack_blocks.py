"""Blocks of outputs by inputs of one pixel of the kernel where a bit is set, zeros elsewhere."""

import math

import numpy as np

from tests.cases._draw import channels, floats, integers, one_of


def inputs(rng, weight=None):
    kernel = one_of(rng, (), (1, 1), (3, 3), (2, 3))
    shape = (channels(rng), int(rng.integers(1, 40)), *kernel) if weight is None else weight.shape
    any_ = [int(n) for n in rng.integers(1, 18, 2)]
    rows, columns = one_of(rng, (16, 1), (8, 1), (4, 4), (1, 8), (32, 1), (8, 2), (1, 1), any_)
    bits = rng.random(math.prod(grid(shape, rows, columns))) < one_of(rng, 0.05, 0.3, 0.9, rng.random())
    bits[rng.integers(len(bits))] = True
    kept = int(bits.sum()), columns, rows
    values = integers(rng, kept, "int8") if weight is None and rng.random() < 0.5 else floats(rng, kept)
    return {"bitmap": np.packbits(bits, bitorder="little"), "values": values}, {"shape": list(shape)}


def expected(bitmap, values, shape):
    """Block after block: outputs, then inputs, then the kernel's pixels."""
    _, columns, rows = values.shape
    bits = iter(np.unpackbits(bitmap, bitorder="little"))
    whole, kept = np.zeros((*shape[:2], math.prod(shape[2:])), values.dtype), iter(values)
    for o, c, tap in np.ndindex(*grid(shape, rows, columns)):
        if next(bits):
            part = whole[o * rows:(o + 1) * rows, c * columns:(c + 1) * columns, tap]
            part[:] = next(kept).T[:part.shape[0], :part.shape[1]]
    return whole.reshape(shape)


def grid(shape, rows: int, columns: int) -> tuple[int, int, int]:
    """Blocks along outputs, inputs and the kernel's pixels."""
    return -(-shape[0] // rows), -(-shape[1] // columns), math.prod(shape[2:])
