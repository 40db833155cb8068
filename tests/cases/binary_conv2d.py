"""clamp(scale * sums + bias, low, high) of sums of products of signs, in which a tap outside the image is a zero."""

import numpy as np

from tests.cases._draw import bounds, convolution, floats, one_of
from tests.cases._numpy import convolved, per_channel
from tests.cases.binary_linear import packed, signs

TOLERANCE = 1e-4


def inputs(rng):
    x, weight, geometry = convolution(rng, one_of(rng, 8, 16, 24))
    low, high = bounds(rng)
    scale, bias = (floats(rng, weight[0]) for _ in range(2))
    tensors = {"x": packed(rng, x), "weight": packed(rng, weight), "scale": scale, "bias": bias}
    return tensors, {"channels": x[1], **geometry, "low": low, "high": high}


def expected(x, weight, scale, bias, channels, stride, padding, dilation, groups, low, high):
    sums = convolved(signs(x, channels), signs(weight, channels // groups), stride, padding, dilation, groups)
    return np.clip(sums * per_channel(scale, 4).astype(float) + per_channel(bias, 4), low, high).astype("float32")
