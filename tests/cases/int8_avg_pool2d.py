"""The mean of windows of bytes, rounded once from float32."""

import math

import numpy as np

from tests.cases._draw import float_scale, image, integers, one_of, window, zero_point
from tests.cases._numpy import nearest, windows


def inputs(rng):
    shape = image(rng)
    place = window(rng, shape, padded=False)
    del place["padding"]
    taps = math.prod(place["kernel_size"])
    scale = one_of(rng, float(np.float32(1 / taps)), float_scale(rng, 1 / taps))  # the first leads to halves
    return {"x": integers(rng, shape)}, {
        **place, "x_zero_point": zero_point(rng), "scale": scale, "zero_point": zero_point(rng)}


def expected(x, kernel_size, stride, x_zero_point, scale, zero_point):
    sums = windows(x.astype(np.int64) - x_zero_point, kernel_size, stride).sum((4, 5))
    return nearest(sums, scale, zero_point)
