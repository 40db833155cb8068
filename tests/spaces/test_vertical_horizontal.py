"""Convolutions split into a vertical and a horizontal one: the optimum, what it computes and costs, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from torch import nn

from spaces.gene import SpaceError, parse
from spaces.vertical_horizontal import as_pair, composed, maps_for, nearest
from tests.spaces.convolutions import geometries, macs, with_weight


def split(token: str, layer: nn.Conv2d) -> nn.Module:
    return parse("compression", token).prepare(layer)


def tail(weight: torch.Tensor, maps: int) -> float:
    """The norm of the singular values left out, of the matrix whose row (c, y) and column (n, x) is written down number by number."""
    n, c, height, width = weight.shape
    matrix = np.zeros((c * height, n * width))
    for i, j, y, x in np.ndindex(n, c, height, width):
        matrix[j * height + y, i * width + x] = weight[i, j, y, x]
    return float(np.sqrt((np.linalg.svd(matrix, compute_uv=False)[maps:] ** 2).sum()))


@pytest.mark.parametrize("kernel", [3, (5, 3), 9])
def test_the_error_is_the_singular_tail(kernel):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 10, kernel)
    pair = split("vh_lowrank-keep0.4", layer)
    product = torch.einsum("kcy,nkx->ncyx", pair[0].weight[..., 0].double(), pair[1].weight[:, :, 0].double())
    left_out = tail(layer.weight.detach(), pair[0].out_channels)
    assert float((product - layer.weight).detach().norm()) == pytest.approx(left_out, rel=1e-5) and left_out > 0.1


@given(geometries())
@settings(max_examples=150, deadline=None)
def test_the_pair_is_one_convolution_with_the_composed_weights(drawn):
    layer, x = drawn
    weight = layer.weight.detach().double()
    vertical, horizontal = nearest(weight, maps_for(weight, 0.6))
    pair = as_pair(layer, vertical, horizontal)
    assume(pair is not layer)
    torch.testing.assert_close(pair.double()(x.double()), with_weight(layer, composed(vertical, horizontal))(x.double()),
                               rtol=1e-4, atol=1e-5)


@given(geometries())
@settings(max_examples=100, deadline=None)
def test_as_many_maps_as_the_rank_change_nothing(drawn):
    layer, x = drawn
    weight = layer.weight.detach().double()
    n, c, height, width = weight.shape
    assert maps_for(weight, 1000) == min(c * height, n * width)
    torch.testing.assert_close(composed(*nearest(weight, maps_for(weight, 1000))), weight)


def test_no_descent_from_random_factors_finds_better_ones():
    """[64]: the closed form is the global optimum; 20 descents by gradient reach it at best."""
    torch.manual_seed(0)
    weight, maps = torch.randn(8, 5, 3, 3, dtype=torch.float64), 4
    vertical = torch.randn(20, maps, 5, 3, dtype=torch.float64, requires_grad=True)
    horizontal = torch.randn(20, 8, maps, 3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([vertical, horizontal], 0.01, momentum=0.9)
    for _ in range(600):
        errors = (torch.einsum("bkcy,bnkx->bncyx", vertical, horizontal) - weight).square().sum((1, 2, 3, 4))
        optimiser.zero_grad()
        errors.sum().backward()
        optimiser.step()
    optimum = float((composed(*nearest(weight, maps)) - weight).square().sum())
    assert (errors.detach() >= optimum * (1 - 1e-9)).all() and errors.min() < 1.001 * optimum


def test_the_work_is_that_of_the_formula():
    """[64]: d K (C + N) multiply-accumulates a place in place of d^2 C N; with a stride, the vertical one has it along the height."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(16, 24, 3, padding=1), torch.randn(1, 16, 12, 12)
    pair = split("vh_lowrank-keep0.4", layer)
    maps = int(0.4 * 3 * 16 * 24 / (16 + 24))
    assert macs(layer, x) == 144 * 9 * 16 * 24 and macs(pair, x) == 144 * 3 * maps * (16 + 24)
    strided = split("vh_lowrank-keep0.4", nn.Conv2d(16, 24, 3, 2, 1))
    assert macs(strided, x) == 3 * maps * (6 * 12 * 16 + 6 * 6 * 24)
    assert sum(part.weight.numel() for part in pair) <= 0.4 * layer.weight.numel()
    assert pair[0].bias is None and pair[1].bias is layer.bias


def test_a_layer_stays_dense_where_two_would_not_be_smaller():
    """One map alone takes C d + N d' weights."""
    for channels, kernel, dense in (((1, 2), (1, 2), True), ((2, 2), (1, 2), False), ((1, 1), 2, True), ((1, 2), 3, False)):
        layer = nn.Conv2d(*channels, kernel)
        assert (split("vh_lowrank-keep0.01", layer) is layer) == dense


@pytest.mark.parametrize("layer, words", [
    (nn.Conv2d(4, 4, 3, groups=2), "2 groups"),
    (nn.Conv2d(4, 4, 3, padding="same"), "padding zeros same"),
    (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "padding reflect"),
])
def test_what_cannot_be_split_is_refused_by_name(layer, words):
    with pytest.raises(SpaceError, match=f"vh_lowrank: .*{words}"):
        split("vh_lowrank", layer)


@pytest.mark.parametrize("value, words", [(0.0, "all zero"), (float("nan"), "not finite"), (float("inf"), "not finite")])
def test_weights_that_mean_nothing_are_refused(value, words):
    layer = nn.Conv2d(4, 4, 3)
    nn.init.constant_(layer.weight, value)
    with pytest.raises(SpaceError, match=f"vh_lowrank: the weights are {words}"):
        split("vh_lowrank", layer)


@pytest.mark.parametrize("token", ["vh_lowrank-keep0", "vh_lowrank-keep1.1", "vh_lowrank-keep-1"])
def test_values_that_mean_nothing_are_refused(token):
    with pytest.raises(SpaceError, match="vh_lowrank"):
        parse("compression", token)
