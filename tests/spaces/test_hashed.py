"""Hashed weights: the hash against XXH32 as its specification writes it, its evenness, and the nearest table."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spaces.ops
from spaces.gene import parse
from spaces.ops.unpack_hashed import hashed, places

spaces.ops.register_all()
PRIMES = (2654435761, 2246822519, 3266489917, 668265263, 374761393)


def rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) % 2**32


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


def test_the_independent_hash_gives_the_published_values():
    assert [xxh32(b"", 0), xxh32(b"a", 0), xxh32(b"abc", 0)] == [0x02CC5D05, 0x550D7456, 0x32D153FF]


@given(seed=st.integers(0, 2**32 - 1), entries=st.integers(1, 300), shape=st.lists(st.integers(1, 8), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_a_hashed_weight_takes_the_number_and_sign_of_its_hash(seed, entries, shape):
    table = np.random.default_rng(seed).standard_normal(entries).astype("float32")
    each = [xxh32(i.to_bytes(4, "little"), seed) for i in range(int(np.prod(shape)))]
    expected = [-table[(h >> 1) % entries] if h & 1 else table[(h >> 1) % entries] for h in each]
    out = torch.ops.netwright.unpack_hashed(torch.from_numpy(table), seed, shape)
    np.testing.assert_array_equal(out.numpy().flatten(), np.array(expected, "float32"))


def test_the_hash_spreads_evenly_over_buckets_and_signs():
    """Chi-square: about `entries` with a deviation of sqrt(2 * entries)."""
    count, entries = 200_000, 1000
    bucket, sign = places(count, entries, 0)
    observed = torch.bincount(bucket, minlength=entries).double()
    chi_square = float(((observed - count / entries) ** 2 / (count / entries)).sum())
    assert abs(chi_square - entries) < 5 * (2 * entries) ** 0.5
    assert abs(float(sign.mean())) < 5 / count**0.5
    assert len(hashed(count, 0).unique()) > 0.999 * count


def test_the_table_starts_nearest_to_the_weights_and_gets_the_gradient_of_the_expanded_layer():
    torch.manual_seed(0)
    weight = torch.randn(30, 20)
    layer = torch.nn.Linear(20, 30)
    layer.weight.data.copy_(weight)
    layer = parse("compression", "hashed-keep0.25").prepare(layer)
    bucket, sign = places(600, 150, 0)
    matrix = np.zeros((600, 150))
    matrix[np.arange(600), bucket.numpy()] = sign.numpy()
    nearest = np.linalg.lstsq(matrix, weight.flatten().numpy(), rcond=None)[0]
    table = layer.parametrizations.weight.original
    np.testing.assert_allclose(table.detach().numpy(), nearest, atol=1e-5)
    x, free = torch.randn(4, 20), layer.weight.detach().clone().requires_grad_(True)
    torch.nn.functional.linear(x, free, layer.bias).square().sum().backward()
    layer(x).square().sum().backward()
    np.testing.assert_allclose(table.grad.numpy(), matrix.T @ free.grad.flatten().numpy(), rtol=1e-3, atol=1e-3)


def test_a_table_or_seed_that_cannot_be_is_named():
    with pytest.raises(ValueError, match="seed -1; it takes float32"):
        torch.ops.netwright.unpack_hashed(torch.zeros(3), -1, [4])
