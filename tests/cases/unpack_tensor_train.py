"""A train of cores multiplied out, as sums of Kronecker products (Novikov et al., 2015, section 3.2)."""

import math

import numpy as np

from tests.cases._draw import floats, one_of

TOLERANCE = 1e-4


def fits(shape) -> bool:
    """Dense layers and pointwise convolutions."""
    return math.prod(shape[2:]) == 1


def inputs(rng, weight=None):
    parts = int(rng.integers(2, 5))
    if weight is None:
        outputs, inputs_ = ([int(n) for n in rng.integers(1, 6, parts)] for _ in "oi")
        shape = [math.prod(outputs), math.prod(inputs_), *one_of(rng, (), (1, 1))]
    else:
        outputs, inputs_ = (factors(rng, n, parts) for n in weight.shape[:2])
        shape = list(weight.shape)
    ranks = [int(n) for n in rng.integers(1, 6, parts - 1)]
    size = sum(math.prod(core) for core in cores_of(outputs, inputs_, ranks))
    return {"cores": floats(rng, size)}, {"outputs": outputs, "inputs": inputs_, "ranks": ranks, "shape": shape}


def expected(cores, outputs, inputs, ranks, shape):
    weight, at = np.ones((1, 1, 1)), 0
    for left, m, n, right in cores_of(outputs, inputs, ranks):
        core = cores[at:at + left * m * n * right].astype(float).reshape(left, m, n, right)
        at += core.size
        weight = np.stack([sum(np.kron(weight[r], core[r, :, :, s]) for r in range(left)) for s in range(right)])
    return weight[0].reshape(shape).astype("float32")


def cores_of(outputs, inputs, ranks) -> list[tuple[int, int, int, int]]:
    """The cores' shapes, first to last."""
    return list(zip([1, *ranks], outputs, inputs, [*ranks, 1]))


def factors(rng, number: int, parts: int) -> list[int]:
    """So many random factors of a number."""
    found = []
    for _ in range(parts - 1):
        found.append(int(rng.choice([n for n in range(1, number + 1) if number % n == 0])))
        number //= found[-1]
    return [*found, number]
