"""The mean of each window: over what lies in the image, or over its padding too; what ceil mode adds never counts."""

import numpy as np

from tests.cases._draw import floats, image, window
from tests.cases._numpy import padded_windows

TOLERANCE = 1e-4


def inputs(rng):
    shape = image(rng)
    place, counted = window(rng, shape, padded=True), bool(rng.integers(2))
    ceil = bool(rng.integers(2)) and not (counted and any(place["padding"]))
    return {"self": floats(rng, shape)}, {**place, "ceil_mode": ceil, "count_include_pad": counted}


def expected(self, kernel_size, stride, padding, ceil_mode, count_include_pad):
    place = kernel_size, stride, padding, ceil_mode
    sums = padded_windows(self.astype(float), *place, 0.0).sum((4, 5))
    inside = padded_windows(np.ones(self.shape), *place, float(count_include_pad and any(padding))).sum((4, 5))
    return (sums / inside).astype("float32")
