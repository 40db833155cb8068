"""Trained ternary quantisation: values, scales and gradients against what [37] states."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spaces.gene import SpaceError, parse


def layer_of(token: str, weight: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data = weight.clone()
    return parse("compression", token).prepare(layer)


def levels_of(layer: nn.Linear):
    return layer.parametrizations.weight[0]


def scales(layer: nn.Linear) -> tuple[float, float]:
    """Wp and Wn."""
    return tuple(float(scale.detach()) for scale in levels_of(layer).scales())


@given(rows=st.integers(1, 12), columns=st.integers(2, 40), t=st.sampled_from([0.05, 0.1, 0.4]), seed=st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_values_and_the_start_of_the_scales_are_the_published_ones(rows, columns, t, seed):
    weight = np.random.default_rng(seed).standard_normal((rows, columns)).astype("float32")
    threshold = np.float32(t) * np.abs(weight).max()
    sides = [np.abs(weight[weight > threshold]), np.abs(weight[weight < -threshold])]
    up, down = (side.mean() if side.size else np.abs(weight).mean() for side in sides)
    expected = np.where(weight > threshold, up, np.where(weight < -threshold, -down, 0))
    np.testing.assert_allclose(layer_of(f"ttq-t{t}", torch.from_numpy(weight)).weight.detach(), expected, rtol=1e-5)


@pytest.mark.parametrize("token", ["ttq", "ttq-t0.3", "ttq-sparsity0.5"])
def test_gradients_of_both_scales_and_of_the_latent_weights_are_those_of_a_written_out_network(token):
    """Equations 7 and 8 by autograd: of a network in which each region's weights are written as what its gradient says."""
    torch.manual_seed(0)
    layer = layer_of(token, torch.randn(6, 30))
    levels, latent = levels_of(layer), layer.parametrizations.weight.original
    with torch.no_grad():
        levels.down.mul_(3)
    x, upstream = torch.randn(9, 30), torch.randn(9, 6)
    layer(x).backward(upstream)
    positive, negative = scales(layer)
    weight, up, down = (torch.as_tensor(value).clone().requires_grad_() for value in (latent.detach(), positive, negative))
    threshold = parse("compression", token).threshold(latent)
    above, below = weight.detach() > threshold, weight.detach() < -threshold
    moved = torch.where(above, positive * weight, torch.where(below, negative * weight, weight))
    (x @ (moved - moved.detach() + up * above - down * below).t()).backward(upstream)
    torch.testing.assert_close(latent.grad, weight.grad)
    torch.testing.assert_close(levels.up.grad / levels.unit, up.grad)
    torch.testing.assert_close(levels.down.grad / levels.unit, down.grad)
    assert levels.unit == pytest.approx(int((above | below).sum()) ** -0.5) and positive != negative


def test_the_scales_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    layer = layer_of("ttq", torch.randn(5, 12)).double()
    levels, latent = levels_of(layer), layer.parametrizations.weight.original.detach()

    def weights(up, down):
        return torch.func.functional_call(levels, {"up": up, "down": down}, (latent,))
    assert torch.autograd.gradcheck(weights, (levels.up.detach().requires_grad_(), levels.down.detach().requires_grad_()))


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_a_share_of_the_weights_is_zero_whatever_they_have_become(share):
    torch.manual_seed(0)
    layer = layer_of(f"ttq-sparsity{share}", torch.randn(20, 30))
    for _ in range(3):
        assert int((layer.weight == 0).sum()) == round(share * 600)
        layer.parametrizations.weight.original.data = torch.randn(20, 30) * 7


def test_training_moves_the_scales_apart():
    torch.manual_seed(0)
    layer = layer_of("ttq", torch.randn(4, 50))
    target, optimiser = nn.Linear(50, 4), torch.optim.SGD(layer.parameters(), 0.01)
    for _ in range(50):
        x = torch.rand(32, 50)
        optimiser.zero_grad()
        (layer(x) - target(x).detach()).square().mean().backward()
        optimiser.step()
    up, down = scales(layer)
    assert abs(up - down) > 0.01
    assert set(layer.weight.unique().tolist()) == {-down, 0.0, up}


@pytest.mark.parametrize("token", ["ttq-t1", "ttq-sparsity0.99", "ttq-t-0.1"])
def test_thresholds_past_all_weights_are_refused(token):
    with pytest.raises(SpaceError):
        parse("compression", token)
