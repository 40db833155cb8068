"""Hashed weights: the hash that the cases are made with, its evenness, and the nearest table."""

import numpy as np
import pytest
import torch

import spaces.ops
from spaces.gene import parse
from spaces.ops.unpack_hashed import hashed, places
from tests.cases.unpack_hashed import xxh32

spaces.ops.register_all()


def test_the_independent_hash_gives_the_published_values():
    assert [xxh32(b"", 0), xxh32(b"a", 0), xxh32(b"abc", 0)] == [0x02CC5D05, 0x550D7456, 0x32D153FF]


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
