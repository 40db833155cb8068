"""The product of bytes of two scales, or of bytes and one gate a channel, rounded from float32."""

import numpy as np

from tests.cases._draw import float_scale, images_or_rows, integers, zero_point
from tests.cases._numpy import nearest


def inputs(rng, shape=None):
    whole = shape or images_or_rows(rng)
    gate = (*whole[:2], 1, 1) if shape is None and len(whole) == 4 and rng.random() < 0.5 else whole
    return {"x": integers(rng, whole), "y": integers(rng, gate)}, {
        "x_zero_point": zero_point(rng), "y_zero_point": zero_point(rng), "scale": float_scale(rng, 1 / 128),
        "zero_point": zero_point(rng)}


def expected(x, y, x_zero_point, y_zero_point, scale, zero_point):
    product = (x.astype(np.int64) - x_zero_point) * (y.astype(np.int64) - y_zero_point)
    return nearest(product.astype(np.float32) * np.float32(scale) + np.float32(zero_point), 0)
