"""One bit a number: set where it reaches the threshold."""

import math

import numpy as np

from tests.cases._draw import floats, images_or_rows, integers, one_of


def inputs(rng):
    shape = images_or_rows(rng)
    if rng.random() < 0.5:
        return {"x": integers(rng, shape)}, {"threshold": one_of(rng, 117.0, 0.0, 255.0, 127.5)}
    x, threshold = floats(rng, shape), float(np.float32(one_of(rng, 0.0, 0.25, -1.3)))
    odd = [math.nan, 0.0, -0.0, math.inf, -math.inf, 1e-45, -1e-45, threshold]
    return {"x": np.where(rng.random(shape) < 0.9, x, rng.choice(odd, shape)).astype("float32")}, {"threshold": threshold}


def expected(x, threshold):
    return np.packbits(x >= np.float32(threshold), axis=1, bitorder="little")
