"""The mean of windows of bytes, rounded from float32."""

import math

import numpy as np

from tests.cases._draw import float_scale, image, integers, one_of, window, zero_point
from tests.cases._numpy import nearest, windows


def inputs(rng):
    shape = image(rng)
    place = window(rng, shape, padded=False)
    del place["padding"]
    taps = math.prod(place["kernel_size"])
    scale = float_scale(rng, 0.1)
    divisor = one_of(rng, float(np.float32(taps * scale)), float_scale(rng, taps * scale))  # the first leads to halves
    return {"x": integers(rng, shape)}, {
        **place, "x_zero_point": zero_point(rng), "scale": scale, "divisor": divisor, "zero_point": zero_point(rng)}


def expected(x, kernel_size, stride, x_zero_point, scale, divisor, zero_point):
    sums = windows(x.astype(np.int64) - x_zero_point, kernel_size, stride).sum((4, 5))
    return nearest(sums.astype(np.float32) * np.float32(scale) / np.float32(divisor), zero_point)
