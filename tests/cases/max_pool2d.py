"""The largest number of each window, of floats or bytes."""

import numpy as np

from tests.cases._draw import floats, image, integers, window
from tests.cases._numpy import padded_windows


def inputs(rng):
    shape = image(rng)
    x = integers(rng, shape) if rng.random() < 0.5 else floats(rng, shape) - np.float32(3)
    return {"self": x}, {**window(rng, shape, padded=True), "ceil_mode": bool(rng.integers(2))}


def expected(self, kernel_size, stride, padding, ceil_mode):
    least = 0 if self.dtype == np.uint8 else -np.inf
    return padded_windows(self, kernel_size, stride, padding, ceil_mode, least).max((4, 5))
