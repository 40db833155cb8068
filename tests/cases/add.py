"""self + other."""

import numpy as np

from tests.cases._draw import binary as inputs

TOLERANCE = 1e-4


def expected(self, other):
    return self + np.float32(other)
