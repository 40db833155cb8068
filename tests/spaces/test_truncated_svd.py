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
