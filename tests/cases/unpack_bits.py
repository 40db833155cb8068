"""Integers of 2 to 7 bits in two's complement, each row in whole bytes."""

import numpy as np

from tests.cases._draw import integers, weight_shape
from tests.cases._numpy import codes_in, rows_of


def inputs(rng, weight=None):
    shape, bits = list(weight_shape(rng) if weight is None else weight.shape), int(rng.integers(2, 8 if weight is None else 5))
    return {"packed": bytes_of(rng, shape, bits)}, {"bits": bits, "shape": shape}


def expected(packed, bits, shape):
    codes = codes_in(packed, bits, rows_of(shape)[1]).reshape(shape)
    return np.where(codes >= 2 ** (bits - 1), codes - 2**bits, codes).astype("int8")


def bytes_of(rng, shape, bits: int) -> np.ndarray:
    """Random bytes that hold the rows' codes; bits past a row's last code are as random."""
    rows, count = rows_of(shape)
    return integers(rng, (rows, -(-count * bits // 8)))
