"""Numbers of a table, by XXH32 of a weight's place (Collet, xxHash's specification): the lowest bit is the sign, the others,
modulo the table's size, the place in it."""

import math

import numpy as np

from tests.cases._draw import floats, one_of

PRIMES = (2654435761, 2246822519, 3266489917, 668265263, 374761393)


def inputs(rng):
    shape = [int(n) for n in rng.integers(1, 12, rng.integers(1, 5))]
    seed = int(one_of(rng, rng.integers(0, 2**32), 0, 2**32 - 1))
    return {"table": floats(rng, int(rng.integers(1, 300)))}, {"seed": seed, "shape": shape}


def expected(table, seed, shape):
    each = [xxh32(i.to_bytes(4, "little"), seed) for i in range(math.prod(shape))]
    weight = [-table[(h >> 1) % len(table)] if h & 1 else table[(h >> 1) % len(table)] for h in each]
    return np.array(weight, "float32").reshape(shape)


def xxh32(data: bytes, seed: int) -> int:
    """XXH32 of fewer than 16 bytes, as its specification has it."""
    total = (seed + PRIMES[4] + len(data)) % 2**32
    words = len(data) // 4 * 4
    for at in range(0, words, 4):
        total = rotated((total + int.from_bytes(data[at:at + 4], "little") * PRIMES[2]) % 2**32, 17) * PRIMES[3] % 2**32
    for byte in data[words:]:
        total = rotated((total + byte * PRIMES[4]) % 2**32, 11) * PRIMES[0] % 2**32
    for shift, prime in ((15, PRIMES[1]), (13, PRIMES[2]), (16, 1)):
        total = (total ^ total >> shift) * prime % 2**32
    return total


def rotated(value: int, bits: int) -> int:
    """32 bits, turned to the left."""
    return (value << bits | value >> (32 - bits)) % 2**32
