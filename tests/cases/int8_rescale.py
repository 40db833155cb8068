"""Bytes with another scale and zero point, in whole numbers."""

import numpy as np

from tests.cases._draw import images_or_rows, integers, shift_for, step_bounds, zero_point
from tests.cases._numpy import halved_up


def inputs(rng, shape=None):
    zero = zero_point(rng)
    low, high = step_bounds(rng, zero)
    return {"x": integers(rng, shape or images_or_rows(rng))}, {
        "x_zero_point": zero_point(rng), "scale": int(rng.integers(rng.choice([1, 2**21]), 2**22)),
        "shift": shift_for(rng, 1, 30, 22), "zero_point": zero, "low": low, "high": high}


def expected(x, x_zero_point, scale, shift, zero_point, low, high):
    return halved_up((x.astype(np.int64) - x_zero_point) * scale, shift, zero_point, low, high)
