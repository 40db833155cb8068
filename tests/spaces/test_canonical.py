"""Canonical polyadic decomposition, and convolutions in four that it gives: planted sums, slopes by autograd, degeneracy, cost."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tensorly.decomposition import parafac
from torch import nn

from spaces import canonical
from spaces.canonical import Sum, decomposed, least_terms, whole
from spaces.compression.cp import in_four
from spaces.gene import SpaceError, parse
from tests.spaces.convolutions import geometries, macs, planted, with_weight


def distance(factors, tensor: np.ndarray) -> float:
    """Of the sum that the factors make, as a part of the tensor's norm."""
    made = np.einsum(",".join(f"{letter}r" for letter in "ncyx"[:len(factors)]) + "->" + "ncyx"[:len(factors)], *factors)
    return float(np.linalg.norm(made - tensor) / np.linalg.norm(tensor))


def by_tensorly(tensor: np.ndarray, terms: int) -> float:
    """The least distance of alternating least squares from 5 random starts."""
    sums = (parafac(tensor, terms, n_iter_max=1000, init="random", tol=1e-10, random_state=seed) for seed in range(5))
    return min(distance([each.factors[0] * each.weights, *each.factors[1:]], tensor) for each in sums)


@pytest.mark.parametrize("outputs, inputs, kernel", [(20, 12, 5), (8, 6, 3), (3, 16, 9)])
def test_a_planted_sum_is_found(outputs, inputs, kernel):
    """[59]: five terms to 1e-6, which are the planted ones but for their order and scale, so their norms are."""
    tensor = planted(outputs, inputs, kernel, 5).numpy()
    factors, error = decomposed(tensor, 5)
    assert distance(factors, tensor) < 1e-6 and error < 1e-6
    assert error <= by_tensorly(tensor, 5)


@pytest.mark.parametrize("seed", range(3))
def test_under_noise_it_is_no_further_than_alternating_least_squares_from_five_starts(seed):
    generator = torch.Generator().manual_seed(seed)
    tensor = planted(16, 12, 5, 6, seed) + torch.randn(16, 12, 5, 5, generator=generator, dtype=torch.float64)
    factors, error = decomposed(tensor.numpy(), 6)
    assert distance(factors, tensor.numpy()) == pytest.approx(error, rel=1e-9)
    assert error <= by_tensorly(tensor.numpy(), 6) * (1 + 1e-7), "the same place, to the tolerance at which both stop"


@pytest.mark.parametrize("shape", [(4, 5, 3, 2), (4, 5, 3)])
def test_slopes_and_the_curvature_of_the_sum_are_those_of_autograd(shape):
    torch.manual_seed(0)
    tensor, at = torch.randn(shape, dtype=torch.float64), torch.randn(sum(shape), 3, dtype=torch.float64)

    def rest(stacked):
        parts = stacked.split(list(shape))
        letters = "ncyx"[:len(shape)]
        return torch.einsum(",".join(f"{letter}r" for letter in letters) + "->" + letters, *parts) - tensor

    def value(stacked):
        return (rest(stacked).square().sum() + 0.1 * stacked.square().sum()) / 2
    descent = canonical._Descent(tensor.numpy(), 0.1)
    slope = torch.autograd.functional.jacobian(value, at)
    np.testing.assert_allclose(descent._gradient(at.numpy()), slope, rtol=1e-10, atol=1e-10)
    jacobian = torch.autograd.functional.jacobian(rest, at).reshape(tensor.numel(), -1).numpy()
    damped = jacobian.T @ jacobian + (0.1 + 0.5) * np.eye(jacobian.shape[1])
    found = descent._step(at.numpy(), slope.numpy(), 0.5).ravel()
    left = damped @ found + slope.flatten().numpy()
    assert np.linalg.norm(left) < 1.01e-3 * np.linalg.norm(slope)


def test_terms_that_would_cancel_are_held_back():
    """a a b + a b a + b a a has rank 3, and sums of two terms come as near as one likes while they grow without bound."""
    a, b = np.eye(4)[0], np.eye(4)[1]
    tensor = sum(np.einsum("i,j,k->ijk", *each) for each in ((a, a, b), (a, b, a), (b, a, a)))
    factors, error = decomposed(tensor, 2)
    norms = np.prod([np.linalg.norm(factor, axis=0) for factor in factors], axis=0)
    assert norms.sum() < 10 * np.linalg.norm(tensor) and error < 0.2


def test_sums_whose_terms_are_ten_times_the_tensor_are_refused():
    """Norms of terms that make a matrix add up to its nuclear norm: of a unit matrix of 110 rows, to the root of 110 times its norm."""
    with pytest.raises(SpaceError, match="110 terms are degenerate: the sum of their norms is .* times the tensor's, .* take fewer"):
        decomposed(np.eye(110)[:, :, None], 110, "als")


def test_a_sum_is_degenerate_from_ten_times_the_norm_on():
    columns = [np.ones((1, 4))] * 2
    assert not Sum([2.49 * np.ones((1, 4)), *columns], 0.0).degenerate
    assert Sum([2.5 * np.ones((1, 4)), *columns], 0.0).degenerate
    assert Sum([np.full((1, 4), np.nan), *columns], 0.0).degenerate


@pytest.mark.parametrize("terms", [1, 3, 5])
def test_no_sum_of_fewer_terms_can_be_as_near(terms):
    tensor = planted(8, 6, 3, terms).numpy()
    assert least_terms(tensor, 1e-6) == terms and least_terms(tensor, 1.0) == 0
    noise = tensor + np.random.default_rng(0).standard_normal(tensor.shape) * tensor.std()
    assert decomposed(noise, least_terms(noise, 0.5) - 1)[1] > 0.5


@given(geometries(), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_the_four_are_one_convolution_with_the_composed_weights(drawn, terms):
    layer, x = drawn
    factors = [torch.randn(size, terms, dtype=torch.float64).numpy() for size in layer.weight.shape]
    row = in_four(layer, *factors)
    assume(row is not layer)
    product = torch.from_numpy(whole(factors))
    torch.testing.assert_close(row.double()(x.double()), with_weight(layer, product)(x.double()), rtol=1e-4, atol=1e-4)


def test_the_work_is_that_of_the_formula():
    """[59]: of a 9x9 layer from 48 to 128 maps, 64 terms are 40.08 times fewer multiply-accumulates."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(48, 128, 9, padding=4), torch.randn(1, 48, 8, 8)
    row = in_four(layer, *(np.ones((size, 64)) for size in layer.weight.shape))
    assert macs(layer, x) == 64 * 497_664 and macs(row, x) == 64 * 64 * (48 + 2 * 9 + 128)
    assert round(macs(layer, x) / macs(row, x), 2) == 40.08
    assert [part.groups for part in row] == [1, 64, 64, 1]
    assert [part.kernel_size for part in row] == [(1, 1), (9, 1), (1, 9), (1, 1)]
    assert [part.bias is None for part in row] == [True, True, True, False] and row[3].bias is layer.bias


@pytest.mark.parametrize("token", ["cp-rank5", "cp-rank5-solver_als", "cp-error0.01"])
def test_a_layer_of_few_terms_is_replaced_by_them(token):
    torch.manual_seed(0)
    layer, x = nn.Conv2d(12, 20, 5, 2, 2), torch.randn(2, 12, 9, 9)
    layer.weight.data = planted(20, 12, 5, 5).float()
    row = parse("compression", token).prepare(layer)
    assert row[0].out_channels == 5
    torch.testing.assert_close(row(x), layer(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("token, dense", [("cp-rank99", True), ("cp-rank11", True), ("cp-rank10", False), ("cp-error0.01", True)])
def test_a_layer_stays_dense_where_the_four_would_not_be_smaller(token, dense):
    """11 terms of 4 + 4 + 3 + 3 weights are more than 4 4 3 3."""
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 4, 3)
    assert (parse("compression", token).prepare(layer) is layer) == dense


@pytest.mark.parametrize("layer, words", [(nn.Conv2d(4, 4, 3, groups=2), "2 groups"), (nn.Conv2d(4, 4, 3, padding="same"), "padding")])
def test_what_cannot_be_decomposed_is_refused_by_name(layer, words):
    with pytest.raises(SpaceError, match=f"cp-rank2: .*{words}"):
        parse("compression", "cp-rank2").prepare(layer)


@pytest.mark.parametrize("value, words", [(0.0, "all zero"), (float("inf"), "not finite")])
def test_weights_that_mean_nothing_are_refused(value, words):
    layer = nn.Conv2d(4, 4, 3)
    nn.init.constant_(layer.weight, value)
    with pytest.raises(SpaceError, match=f"cp-rank2: the weights are {words}"):
        parse("compression", "cp-rank2").prepare(layer)


@pytest.mark.parametrize("token", ["cp", "cp-rank0", "cp-rank4-error0.1", "cp-error2", "cp-rank4-solver_gd"])
def test_values_that_mean_nothing_are_refused(token):
    with pytest.raises(SpaceError, match="cp"):
        parse("compression", token)


def test_whether_a_rank_can_be_had_is_not_known_before_training():
    assert not parse("compression", "cp-rank4").shapes_fixed
