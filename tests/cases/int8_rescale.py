"""Bytes with another scale and zero point, rounded from float32."""

import numpy as np

from tests.cases._draw import float_scale, images_or_rows, integers, one_of, step_bounds, zero_point
from tests.cases._numpy import nearest


def inputs(rng, shape=None):
    zero = zero_point(rng)
    low, high = step_bounds(rng, zero)
    return {"x": integers(rng, shape or images_or_rows(rng))}, {
        "x_zero_point": zero_point(rng), "scale": one_of(rng, 0.5, float_scale(rng, 1.0), float_scale(rng, 1e9)),
        "zero_point": zero, "low": low, "high": high}


def expected(x, x_zero_point, scale, zero_point, low, high):
    return nearest((x.astype(np.float32) - x_zero_point) * np.float32(scale), zero_point, low, high)
