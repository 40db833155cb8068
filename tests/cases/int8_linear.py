"""The dense layer of bytes, requantised in whole numbers, or times a float."""

import numpy as np

from tests.cases._draw import bounds, dense, integers, one_of, shift_for, step_bounds, zero_point
from tests.cases._numpy import requantised

LARGEST = 255 * 128


def inputs(rng):
    x, weight = dense(rng)
    parameters, rest = epilogue(rng, weight[0], weight[1])
    return {"x": integers(rng, x), "weight": integers(rng, weight, "int8"), **parameters}, rest


def expected(x, weight, bias, scale, **rest):
    return requantised(x.astype(np.int64) @ weight.T.astype(np.int64), bias, scale, **rest)


def epilogue(rng, outputs: int, products: int) -> tuple[dict, dict]:
    """Bias and scale, and the epilogue's other arguments, for sums of so many products: to bytes, or to floats; the
    largest bias leaves the sums just within 32 bits."""
    most = one_of(rng, 20_000, 20_000, 2**31 - 1 - products * LARGEST)
    bias = rng.integers(-most, most + 1, outputs).astype("int32")
    if rng.random() < 0.3:
        low, high = bounds(rng)
        scale = rng.random(outputs, "float32") / 1000
        return {"bias": bias, "scale": scale}, {"shift": 0, "out_zero_point": 0, "low": low, "high": high}
    least = one_of(rng, 2**20, 2**20, 1, 2**31 - 1)
    scale, zero = rng.integers(least, 2**31, outputs).astype("int32"), zero_point(rng)
    low, high = step_bounds(rng, zero)
    shift = shift_for(rng, 1, 62, 37 + np.log2(products) / 2)
    return {"bias": bias, "scale": scale}, {"shift": shift, "out_zero_point": zero, "low": low, "high": high}
