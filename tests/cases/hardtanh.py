"""min(max(x, min_val), max_val)."""

import numpy as np

from tests.cases._draw import one_of, unary


def inputs(rng, shape=None):
    tensors, _ = unary(rng, shape)
    return tensors, one_of(rng, {"min_val": -0.5, "max_val": 2.0}, {"min_val": 0.0, "max_val": 6.0}, {})


def expected(self, min_val=-1.0, max_val=1.0):
    return np.clip(self, np.float32(min_val), np.float32(max_val))
