"""Float32 to bytes: divided by the scale in float32, halves to even, plus the zero point."""

import math

import numpy as np

from tests.cases._draw import floats, image, images_or_rows, one_of, zero_point


def inputs(rng, shape=None):
    planes = image(rng)
    shape = shape or one_of(rng, images_or_rows(rng), (planes[0], int(rng.integers(1, 5)), *planes[2:]))
    x, scale = floats(rng, shape), float(np.float32(np.exp(rng.uniform(-6, 4))))
    odd = rng.choice([1e30, -1e30, 0.5 * scale, 1.5 * scale, math.inf, -math.inf], shape)
    x = np.where(rng.random(shape) < 0.9, x, odd).astype("float32")
    return {"x": x}, {"scale": scale, "zero_point": zero_point(rng)}


def expected(x, scale, zero_point):
    with np.errstate(over="ignore"):
        steps = np.rint(x / np.float32(scale)).astype(float)
    return np.clip(steps + zero_point, 0, 255).astype("uint8")
