"""clamp(conv(x, weight) + bias, low, high)."""

import numpy as np

from tests.cases._draw import bounds, convolution, floats
from tests.cases._numpy import convolved, per_channel

TOLERANCE = 1e-4


def inputs(rng):
    x, weight, geometry = convolution(rng)
    low, high = bounds(rng)
    tensors = {"x": floats(rng, x), "weight": floats(rng, weight), "bias": floats(rng, weight[0])}
    return tensors, {**geometry, "low": low, "high": high}


def expected(x, weight, bias, stride, padding, dilation, groups, low, high):
    sums = convolved(x, weight, stride, padding, dilation, groups)
    return np.clip(sums + per_channel(bias, 4), low, high).astype("float32")
