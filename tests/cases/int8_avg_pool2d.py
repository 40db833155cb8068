"""The mean of windows of bytes, requantised once, in whole numbers."""

import math

import numpy as np

from tests.cases._draw import image, integers, shift_for, window, zero_point
from tests.cases._numpy import halved_up, windows


def inputs(rng):
    shape = image(rng)
    place = window(rng, shape, padded=False)
    del place["padding"]
    shift = shift_for(rng, 1, 62, 30 + math.log2(math.prod(place["kernel_size"])))
    return {"x": integers(rng, shape)}, {
        **place, "x_zero_point": zero_point(rng), "scale": int(rng.integers(rng.choice([1, 2**30]), 2**31)), "shift": shift,
        "zero_point": zero_point(rng)}


def expected(x, kernel_size, stride, x_zero_point, scale, shift, zero_point):
    sums = windows(x.astype(np.int64) - x_zero_point, kernel_size, stride).sum((4, 5))
    return halved_up(sums * scale, shift, zero_point)
