"""The product of bytes of two scales, or of bytes and one gate a channel, in whole numbers."""

import numpy as np

from tests.cases._draw import images_or_rows, integers, shift_for, zero_point
from tests.cases._numpy import halved_up


def inputs(rng, shape=None):
    whole = shape or images_or_rows(rng)
    gate = (*whole[:2], 1, 1) if shape is None and len(whole) == 4 and rng.random() < 0.5 else whole
    return {"x": integers(rng, whole), "y": integers(rng, gate)}, {
        "x_zero_point": zero_point(rng), "y_zero_point": zero_point(rng),
        "scale": int(rng.integers(rng.choice([1, 2**13]), 2**14)), "shift": shift_for(rng, 1, 30, 21),
        "zero_point": zero_point(rng)}


def expected(x, y, x_zero_point, y_zero_point, scale, shift, zero_point):
    product = (x.astype(np.int64) - x_zero_point) * (y.astype(np.int64) - y_zero_point)
    return halved_up(product * scale, shift, zero_point)
