"""exp(x) over the sum of a row's."""

import numpy as np

from tests.cases._draw import channels, floats, one_of

TOLERANCE = 1e-4


def inputs(rng):
    shape = int(rng.integers(1, 4)), channels(rng)
    return {"self": floats(rng, shape, one_of(rng, 1.0, 5.0, 100.0))}, {"dim": one_of(rng, 1, -1)}


def expected(self, dim):
    powers = np.exp(self.astype(float) - self.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype("float32")
