"""Packed signs and XNOR layers: the ops against NumPy, the conversion against what [31] derives, and its refusals."""

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


def packed(values: np.ndarray) -> torch.Tensor:
    """Signs [N, C, ...], eight channels a byte, by NumPy."""
    return torch.from_numpy(np.packbits(values > 0, axis=1, bitorder="little"))


def sums_inside(x, weight, stride, padding, dilation, groups):
    """A convolution of signs in plain loops: taps outside the image are passed over."""
    (batch, _, height, width), (outputs, inner, *kernel) = x.shape, weight.shape
    size = [(n + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i, n in enumerate((height, width))]
    out = np.zeros((batch, outputs, *size), np.int64)
    for o in range(outputs):
        first = o // (outputs // groups) * inner
        for y, column, r, s in np.ndindex(*size, *kernel):
            at = y * stride[0] + r * dilation[0] - padding[0], column * stride[1] + s * dilation[1] - padding[1]
            if 0 <= at[0] < height and 0 <= at[1] < width:
                out[:, o, y, column] += x[:, first:first + inner, at[0], at[1]] @ weight[o, :, r, s]
    return out


@given(groups=st.sampled_from([1, 1, 2]), inputs=st.integers(1, 40), outputs=st.integers(1, 3),
       kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
       padding=st.tuples(st.integers(0, 3), st.integers(0, 3)), dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
       seed=st.integers(0, 2**31))
@settings(max_examples=200, deadline=None)
def test_a_convolution_of_signs_passes_over_taps_outside_the_image(groups, inputs, outputs, kernel, stride, padding,
                                                                   dilation, seed):
    rng = np.random.default_rng(seed)
    inputs, outputs = inputs if groups == 1 else groups * 8 * (inputs % 3 + 1), groups * outputs
    x, weight = (rng.choice([-1, 1], shape) for shape in ((2, inputs, 6, 5), (outputs, inputs // groups, *kernel)))
    scale, bias = rng.standard_normal((2, outputs)).astype("float32")
    out = OPS.binary_conv2d(packed(x), packed(weight), torch.from_numpy(scale), torch.from_numpy(bias), inputs, stride,
                            padding, dilation, groups, -20.0, 20.0)
    sums = sums_inside(x, weight, stride, padding, dilation, groups)
    expected = np.clip(sums * scale.reshape(-1, 1, 1).astype(float) + bias.reshape(-1, 1, 1), -20, 20)
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-5, atol=1e-5)


@given(inputs=st.integers(1, 300), outputs=st.integers(1, 9), seed=st.integers(0, 2**31))
@settings(max_examples=200, deadline=None)
def test_a_dense_layer_of_signs_is_n_minus_twice_the_differences(inputs, outputs, seed):
    """[29]: the dot product of signs, padding bits and all."""
    rng = np.random.default_rng(seed)
    x, weight = rng.choice([-1, 1], (2, inputs)), rng.choice([-1, 1], (outputs, inputs))
    differences = np.bitwise_count(packed(x).numpy()[:, None] ^ packed(weight).numpy()).sum(2, dtype=np.int64)
    out = OPS.binary_linear(packed(x), packed(weight), torch.ones(outputs), torch.zeros(outputs), inputs, *NONE)
    np.testing.assert_array_equal(out.numpy(), inputs - 2 * differences)
    np.testing.assert_array_equal(out.numpy(), x @ weight.T)


@given(shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 3), st.integers(1, 3)), seed=st.integers(0, 2**31),
       integer=st.booleans())
@settings(max_examples=200, deadline=None)
def test_numbers_are_packed_as_numpy_packs_bits(shape, seed, integer):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, shape).astype("uint8") if integer else rng.standard_normal(shape).astype("float32")
    threshold = 128.0 if integer else 0.0
    out = OPS.binarize(torch.from_numpy(x), threshold)
    np.testing.assert_array_equal(out.numpy(), np.packbits(x >= threshold, axis=1, bitorder="little"))
    np.testing.assert_array_equal(signs(out, shape[1]).numpy(), np.where(x >= threshold, 1, -1))
    assert torch.equal(pack_signs(signs(out, shape[1]) > 0), out)


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
