"""Single weights where a bit is set, zeros elsewhere."""

import math

import numpy as np

from tests.cases._draw import floats, integers, one_of, weight_shape


def inputs(rng, weight=None):
    weight = floats(rng, weight_shape(rng)) if weight is None else weight
    keep = one_of(rng, 0.05, 0.3, 0.9, rng.random())
    bits = rng.random(weight.size) < keep
    bits[rng.integers(weight.size)] = True
    count = int(bits.sum())
    values = floats(rng, count) if rng.random() < 0.6 or weight.ndim == 4 else integers(rng, count, "int8")
    return {"bitmap": np.packbits(bits, bitorder="little"), "values": values}, {"shape": list(weight.shape)}


def expected(bitmap, values, shape):
    out = np.zeros(math.prod(shape), values.dtype)
    out[np.flatnonzero(np.unpackbits(bitmap, count=out.size, bitorder="little"))] = values
    return out.reshape(shape)
