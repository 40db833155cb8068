"""Signed powers of two: of a code the highest bit is the sign, the others e stand for 0 where e = 0, else for 2^(e - 1)."""

import numpy as np

from tests.cases._draw import weight_shape
from tests.cases._numpy import codes_in, rows_of
from tests.cases.unpack_bits import bytes_of


def inputs(rng, weight=None):
    shape, bits = list(weight_shape(rng) if weight is None else weight.shape), int(rng.integers(3, 5))
    return {"packed": bytes_of(rng, shape, bits)}, {"bits": bits, "shape": shape}


def expected(packed, bits, shape):
    codes = codes_in(packed, bits, rows_of(shape)[1]).reshape(shape)
    exponent, negative = codes % 2 ** (bits - 1), codes >= 2 ** (bits - 1)
    return (np.where(exponent > 0, 2.0 ** (exponent - 1), 0) * np.where(negative, -1, 1)).astype("int8")
