"""Vectors of a table, by codes of 1 to 8 bits: one a segment of an output's inputs, and pixel of the kernel."""

import numpy as np

from tests.cases._draw import floats, one_of, weight_shape
from tests.cases._numpy import codes_in


def inputs(rng, weight=None):
    shape, bits = list(weight_shape(rng) if weight is None else weight.shape), int(rng.integers(1, 9))
    length = one_of(rng, 1, 1, 2, 3, 4, 8) if len(shape) > 1 else 1
    outputs, segments, positions = sizes(shape, length)
    entries = one_of(rng, 2**bits, int(rng.integers(1, 2**bits + 1)))
    codes = rng.integers(0, entries, (outputs * segments * positions, 1))
    stream = (codes >> np.arange(bits)) & 1
    table = floats(rng, (one_of(rng, 1, 1, segments), entries, length))
    return {"codes": np.packbits(stream.astype("uint8"), bitorder="little"), "table": table}, {"bits": bits, "shape": shape}


def expected(codes, table, bits, shape):
    tables, _, length = table.shape
    outputs, segments, positions = sizes(shape, length)
    each = codes_in(codes, bits, outputs * segments * positions).reshape(outputs, segments, positions)
    weight = np.empty((outputs, segments * length, positions), "float32")
    for segment, place in np.ndindex(segments, length):
        weight[:, segment * length + place] = table[segment if tables > 1 else 0, each[:, segment], place]
    return np.ascontiguousarray(weight[:, :(shape + [1])[1]]).reshape(shape)


def sizes(shape, length: int) -> tuple[int, int, int]:
    """Outputs, segments and pixels of the kernel: one code each."""
    inputs = shape[1] if len(shape) > 1 else 1
    return shape[0], -(-inputs // length), int(np.prod(shape[2:]))
