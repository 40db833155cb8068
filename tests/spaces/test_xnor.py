"""Packed signs and XNOR layers: the conversion against what [31] derives, and its refusals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import spaces.ops
from spaces.freeze import freeze
from spaces.gene import SpaceError, parse
from spaces.packed_signs import pack_signs, signs

spaces.ops.register_all()
OPS = torch.ops.netwright
XNOR = parse("compression", "xnor")
NONE = (-math.inf, math.inf)


@given(shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 3), st.integers(1, 3)), seed=st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_packed_signs_are_numpys_bits(shape, seed):
    positive = np.random.default_rng(seed).random(shape) < 0.5
    bits = pack_signs(torch.from_numpy(positive))
    np.testing.assert_array_equal(bits.numpy(), np.packbits(positive, axis=1, bitorder="little"))
    np.testing.assert_array_equal(signs(bits, shape[1]).numpy(), np.where(positive, 1, -1))


def test_ops_name_what_is_no_packed_sign():
    x, weight, one = torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(4, 3, 1, 1, dtype=torch.uint8), torch.ones(4)
    geometry = ([1, 1], [0, 0], [1, 1])
    with pytest.raises(ValueError, match="x has 3 bytes of channels and weight 3; 32 channels in 1 groups are 4 and 4"):
        OPS.binary_conv2d(x, weight, one, one, 32, *geometry, 1, *NONE)
    with pytest.raises(ValueError, match="24 channels in 2 groups: each must have a multiple of 8"):
        OPS.binary_conv2d(x, weight, one, one, 24, *geometry, 2, *NONE)
    with pytest.raises(ValueError, match="packed signs are torch.uint8"):
        OPS.binary_linear(torch.ones(1, 8), torch.ones(4, 8), one, one, 8, *NONE)
    with pytest.raises(ValueError, match="signs are taken of"):
        OPS.binarize(torch.zeros(1, 8, dtype=torch.int64), 0.0)


def followed(layer: nn.Module, x: torch.Tensor) -> nn.Module:
    """The prepared layer after it has seen one batch."""
    prepared = XNOR.prepare(layer)
    prepared.train()(x)
    return prepared.eval()


def test_the_mean_magnitude_is_the_best_scale_and_leaves_a_third_of_gaussian_weights():
    """[31]: no other scale is nearer; the relative error is 1 - 2/pi."""
    torch.manual_seed(0)
    weight = torch.randn(4, 20_000)
    scale = weight.abs().mean(1, keepdim=True)
    error = (weight - scale * weight.sign()).square().sum(1)
    for other in (0.99, 1.01):
        assert bool(((weight - other * scale * weight.sign()).square().sum(1) > error).all())
    assert float((error / weight.square().sum(1)).mean()) == pytest.approx(1 - 2 / math.pi, abs=0.01)


def test_inputs_behind_a_rectifier_keep_their_mean():
    """Inputs of two values about a mean, and weights of one magnitude, are what their signs stand for."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 5)
    layer.weight.data = 0.3 * torch.where(torch.randn(5, 64) > 0, 1.0, -1.0)
    x = 2.0 + 0.5 * torch.where(torch.randn(32, 64) > 0, 1.0, -1.0)
    x[:, 1::2] = 4.0 - x[:, ::2]
    prepared = followed(layer, x)
    torch.testing.assert_close(prepared(x), layer(x), rtol=1e-4, atol=1e-4)


def test_gradients_pass_straight_through_near_the_threshold_and_none_beyond():
    torch.manual_seed(0)
    prepared = followed(nn.Linear(16, 3), torch.randn(64, 16))
    mean, spread = prepared.mean, prepared.spread
    x = torch.stack([mean + 0.5 * spread, mean - 2 * spread])[:, None].repeat(1, 16).requires_grad_(True)
    prepared(x).sum().backward()
    weight = prepared.layer.weight.detach()
    expected = (weight.abs().mean(1, keepdim=True) * torch.where(weight >= 0, 1.0, -1.0)).sum(0)
    torch.testing.assert_close(x.grad[0], expected)
    assert bool((x.grad[1] == 0).all())


def test_weights_get_the_gradient_of_their_signs_and_of_their_scale():
    """[31], equation 11, without the factor of the scale: g + sign(w) mean(g sign(w)), g the binarised weight's."""
    torch.manual_seed(0)
    prepared = followed(nn.Linear(16, 3), torch.randn(64, 16))
    prepared.mean.zero_()
    x, upstream = torch.randn(8, 16), torch.randn(8, 3)
    prepared(x).backward(upstream)
    sign = torch.where(prepared.layer.weight >= 0, 1.0, -1.0)
    binarised = upstream.t() @ (prepared.spread * torch.where(x >= 0, 1.0, -1.0))
    torch.testing.assert_close(prepared.layer.weight.grad, binarised + sign * (binarised * sign).mean(1, keepdim=True))


@pytest.mark.parametrize("layer, shape", [
    (nn.Conv2d(37, 12, 3, 2, 1), (4, 37, 9, 11)), (nn.Conv2d(32, 8, 3, 1, 2, 2, groups=4, bias=False), (4, 32, 7, 7)),
    (nn.Linear(37, 12), (4, 37))])
def test_a_layer_freezes_to_the_signs_it_was_trained_with(layer, shape):
    torch.manual_seed(0)
    x = torch.relu(torch.randn(shape))
    prepared = followed(layer, x)
    frozen = freeze(nn.Sequential(prepared, nn.ReLU()))
    torch.testing.assert_close(frozen(x), torch.relu(prepared(x)), rtol=1e-5, atol=1e-5)
    called = [str(node.target) for node in frozen.graph.nodes if node.op == "call_function"]
    assert len(called) == 2 and "binarize" in called[0] and "binary" in called[1]
    stored = frozen.state_dict()
    per_group = -(-layer.weight.shape[1] // 8)
    assert stored["0.weight"].nbytes == len(layer.weight) * per_group * layer.weight[0, 0].numel()
    assert sum(t.nbytes for t in stored.values()) == stored["0.weight"].nbytes + 2 * 4 * len(layer.weight)


def test_signs_are_packed_right_in_front_of_their_layer_and_integers_pass_by():
    """Neither is a max-pool moved across, nor does a layer of signs give integers."""
    torch.manual_seed(0)
    int8 = parse("compression", "int8")
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.MaxPool2d(2), XNOR.prepare(nn.Conv2d(16, 24, 3)), nn.MaxPool2d(2),
                            int8.prepare(nn.Conv2d(24, 16, 1)), XNOR.prepare(nn.Conv2d(16, 8, 1)))
    x = torch.randn(4, 3, 16, 16)
    network.train()(x)
    frozen = freeze(network)
    called = [str(node.target).split(".")[1] for node in frozen.graph.nodes if node.op == "call_function"]
    assert called == ["conv2d", "binarize", "binary_conv2d", "quantize", "int8_conv2d", "binarize", "binary_conv2d"]
    assert frozen(x).shape == network(x).shape


@pytest.mark.parametrize("layer, reason", [
    (nn.Conv2d(24, 24, 3, groups=2), "groups of 12 channels"), (nn.Conv2d(16, 16, 3, groups=16), "groups of 1 channels"),
    (nn.Linear(1, 40), "1 inputs to an output"), (parse("compression", "magnitude").prepare(nn.Linear(16, 4)), "masked")])
def test_layers_that_signs_cannot_stand_for_are_refused(layer, reason):
    with pytest.raises(SpaceError, match=reason):
        XNOR.prepare(layer)


@pytest.mark.parametrize("value", [0.0, math.inf, math.nan])
def test_scales_that_are_zero_or_not_finite_fail_with_the_layer_named(value):
    network = nn.Sequential(nn.Flatten(), XNOR.prepare(nn.Linear(16, 4)))
    network.train()(torch.randn(8, 16))
    network[1].layer.weight.data[2] = value
    with pytest.raises(SpaceError, match="^1: xnor: channel 2 has scale"):
        freeze(network)


@pytest.mark.parametrize("x", [torch.ones(8, 16), torch.full((8, 16), math.inf), torch.full((8, 16), math.nan)])
def test_inputs_without_a_spread_fail_with_the_layer_named(x):
    network = nn.Sequential(nn.Flatten(), XNOR.prepare(nn.Linear(16, 4)))
    network.train()(x)
    with pytest.raises(SpaceError, match="^1: xnor: the inputs' mean distance"):
        freeze(network)
