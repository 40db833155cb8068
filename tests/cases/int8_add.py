"""The sum of bytes of two scales, by fused products and sums of float32."""

import numpy as np

from tests.cases._draw import float_scale, images_or_rows, integers, one_of, step_bounds, zero_point
from tests.cases._numpy import nearest


def inputs(rng, shape=None):
    shape, zero = shape or images_or_rows(rng), zero_point(rng)
    x_scale, y_scale = one_of(rng, (0.5, 0.5), (float_scale(rng, 1.0), float_scale(rng, 1.0)))
    offset = float(np.float32(zero - x_scale * zero_point(rng) - y_scale * zero_point(rng)))
    low, high = step_bounds(rng, zero)
    return {"x": integers(rng, shape), "y": integers(rng, shape)}, {
        "x_scale": x_scale, "y_scale": y_scale, "offset": offset, "low": low, "high": high}


def expected(x, y, x_scale, y_scale, offset, low, high):
    return nearest(_fused(x, x_scale, _fused(y, y_scale, np.float32(offset))), 0, low, high)


def _fused(x, scale, offset):
    """In the longest floats that NumPy has, then float32: the sum needs 64 bits at most."""
    return (x.astype(np.longdouble) * np.longdouble(scale) + offset.astype(np.longdouble)).astype(np.float32)
