"""clamp(x weight^T + bias, low, high)."""

import numpy as np

from tests.cases._draw import bounds, dense, floats

TOLERANCE = 1e-4


def inputs(rng):
    x, weight = dense(rng)
    low, high = bounds(rng)
    return {"x": floats(rng, x), "weight": floats(rng, weight), "bias": floats(rng, weight[0])}, {"low": low, "high": high}


def expected(x, weight, bias, low, high):
    return np.clip(x.astype(float) @ weight.T.astype(float) + bias, low, high).astype("float32")
