"""The sum of bytes of two scales, in whole numbers."""

import numpy as np

from tests.cases._draw import images_or_rows, integers, shift_for, step_bounds, zero_point
from tests.cases._numpy import halved_up


def inputs(rng, shape=None):
    shape, zero = shape or images_or_rows(rng), zero_point(rng)
    x_scale, y_scale = (int(rng.integers(rng.choice([1, 2**20]), 2**21)) for _ in "xy")
    low, high = step_bounds(rng, zero)
    return {"x": integers(rng, shape), "y": integers(rng, shape)}, {
        "x_zero_point": zero_point(rng), "x_scale": x_scale, "y_zero_point": zero_point(rng), "y_scale": y_scale,
        "shift": shift_for(rng, 1, 30, 21), "zero_point": zero, "low": low, "high": high}


def expected(x, y, x_zero_point, x_scale, y_zero_point, y_scale, shift, zero_point, low, high):
    total = (x.astype(np.int64) - x_zero_point) * x_scale + (y.astype(np.int64) - y_zero_point) * y_scale
    return halved_up(total, shift, zero_point, low, high)
