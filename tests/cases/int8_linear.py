"""The dense layer of bytes, requantised by one product each."""

import numpy as np

from tests.cases._draw import bounds, dense, integers, one_of, step_bounds, zero_point
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
        return {"bias": bias, "scale": scale}, {"low": low, "high": high}
    zero = zero_point(rng)
    low, high = step_bounds(rng, zero)
    spread = 2.0 ** (-7 + rng.integers(-3, 4)) / np.sqrt(products)
    scale = one_of(rng, *[spread * rng.uniform(0.1, 2, outputs)] * 4, 2.0 ** -rng.integers(1, 12, outputs),
                   10.0 ** rng.integers(-30, 30, outputs))
    return {"bias": bias, "scale": scale.astype("float32")}, {"out_zero_point": zero, "low": low, "high": high}
