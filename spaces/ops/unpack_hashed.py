"""Weights that share numbers at random, as they are stored: a table alone, since a hash of a weight's place says which number it
takes and with which sign (Chen et al., Compressing neural networks with the hashing trick, 2015, equations 3 to 8).

h = XXH32 of the weight's row-major number, as four bytes, lowest first, with `seed`; the lowest bit of h is the sign (1: minus)
and the others, modulo the table's entries, the bucket:

    weight[i] = (-1)^(h(i) & 1) * table[(h(i) >> 1) % entries]

table float32 [entries], seed 0 to 2^32 - 1, shape of fewer than 2^32 weights. Gives float32 weights of `shape`.
"""

import math

import torch

PRIME2, PRIME3, PRIME4, PRIME5 = 2246822519, 3266489917, 668265263, 374761393
MASK = 2**32 - 1


def hashed(count: int, seed: int) -> torch.Tensor:
    """XXH32 of 0 to count - 1; int64 [count], each below 2^32."""
    h = (torch.arange(count) * PRIME3 + (seed + PRIME5 + 4)) & MASK
    h = (((h << 17) | (h >> 15)) & MASK) * PRIME4 & MASK
    h = (h ^ (h >> 15)) * PRIME2 & MASK
    h = (h ^ (h >> 13)) * PRIME3 & MASK
    return h ^ (h >> 16)


def places(count: int, entries: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The bucket (int64) and the sign (float32 +1 or -1) of each of `count` weights."""
    h = hashed(count, seed)
    return (h >> 1) % entries, 1.0 - 2.0 * (h & 1)


def reference(table: torch.Tensor, seed: int, shape: list[int]) -> torch.Tensor:
    if table.dim() != 1 or table.dtype != torch.float32 or not len(table) or not 0 <= seed <= MASK:
        raise ValueError(f"unpack_hashed: table {table.dtype} {list(table.shape)}, seed {seed}; it takes float32 [entries] and a"
                         " seed of 32 bits")
    bucket, sign = places(math.prod(shape), len(table), seed)
    return (table[bucket] * sign).reshape(shape)


unpack_hashed = torch.library.custom_op("netwright::unpack_hashed", mutates_args=())(reference)


@unpack_hashed.register_fake
def _shape(table, seed, shape):
    return table.new_empty(shape)
