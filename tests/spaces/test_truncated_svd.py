"""The leading singular triplets are those of the full decomposition, by whichever method."""

import numpy as np
import pytest
import torch

from spaces.truncated_svd import truncated_svd


@pytest.mark.parametrize("shape, rank", [((600, 700), 4), ((700, 520), 20), ((600, 700), 300), ((9, 30), 4), ((9, 30), 50)])
def test_it_is_the_best_approximation_of_its_rank(shape, rank):
    matrix = torch.from_numpy(np.random.default_rng(0).standard_normal(shape))
    left, values, right = truncated_svd(matrix, rank)
    every = np.linalg.svd(matrix.numpy(), compute_uv=False)
    kept = min(rank, *shape)
    assert left.shape == (shape[0], kept) and right.shape == (kept, shape[1])
    np.testing.assert_allclose(values, every[:kept], rtol=1e-10)
    # Eckart and Young (1936): what is left over has the norm of the values left out
    rest = matrix - left @ torch.diag(values) @ right
    np.testing.assert_allclose(torch.linalg.norm(rest), np.sqrt((every[kept:] ** 2).sum()), rtol=1e-8, atol=1e-9)


def test_it_is_the_same_each_time():
    matrix = torch.from_numpy(np.random.default_rng(1).standard_normal((600, 600)))
    for one, other in zip(truncated_svd(matrix, 3), truncated_svd(matrix, 3)):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype, rounding", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("true", [0, 1, 3])
def test_a_rank_below_the_one_asked_leaves_nothing_over(true, dtype, rounding):
    rng = np.random.default_rng(2)
    matrix = torch.from_numpy(rng.standard_normal((600, true)) @ rng.standard_normal((true, 700))).to(dtype)
    left, values, right = truncated_svd(matrix, 8)
    assert left.dtype == values.dtype == right.dtype == dtype
    assert (left.shape, values.shape, right.shape) == ((600, 8), (8,), (8, 700))
    torch.testing.assert_close(left @ torch.diag(values) @ right, matrix, rtol=0, atol=rounding * float(values[0]))
    assert (values[true:] <= rounding * values[0]).all()
    for vectors in (left.T, right):
        torch.testing.assert_close(vectors @ vectors.T, torch.eye(8, dtype=dtype), rtol=0, atol=rounding)


@pytest.mark.parametrize("shape", [(6, 7), (600, 700)])
def test_nan_is_refused_at_any_size(shape):
    with pytest.raises(torch.linalg.LinAlgError, match="non-finite"):
        truncated_svd(torch.full(shape, float("nan")), 4)
