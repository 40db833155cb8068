"""(x - zero_point) * scale in float32."""

import numpy as np

from tests.cases._draw import images_or_rows, integers, zero_point

TOLERANCE = 1e-4


def inputs(rng, shape=None):
    scale = float(np.float32(np.exp(rng.uniform(-8, 1))))
    return {"x": integers(rng, shape or images_or_rows(rng))}, {"scale": scale, "zero_point": zero_point(rng)}


def expected(x, scale, zero_point):
    return (x.astype("float32") - np.float32(zero_point)) * np.float32(scale)
