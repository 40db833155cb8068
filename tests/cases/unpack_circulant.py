"""Circulant blocks: of each, its first column, turned by one number from column to column."""

import math

import numpy as np

from tests.cases._draw import channels, floats, integers, one_of


def fits(shape) -> bool:
    """Dense layers and pointwise convolutions whose channels have a common divisor."""
    return math.prod(shape[2:]) == 1 and math.gcd(*shape[:2]) > 1


def inputs(rng, weight=None):
    if weight is None:
        shape, block = [channels(rng), channels(rng), *one_of(rng, (), (1, 1))], int(rng.integers(2, 21))
    else:
        shape, common = list(weight.shape), math.gcd(*weight.shape[:2])
        block = one_of(rng, *(n for n in range(2, common + 1) if common % n == 0))
    blocks = -(-shape[0] // block), -(-shape[1] // block), block
    values = integers(rng, blocks, "int8") if weight is None and rng.random() < 0.5 else floats(rng, blocks)
    return {"values": values}, {"shape": shape}


def expected(values, shape):
    turned = np.stack([np.roll(values, j, 2) for j in range(values.shape[2])], 3)
    return np.ascontiguousarray(np.concatenate(np.concatenate(turned, 1), 1)[:shape[0], :shape[1]]).reshape(shape)
