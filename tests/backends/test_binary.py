"""Kernels of packed signs against plain sums of +1 and -1."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.binary import Kinds
from backends.roofline import flops
from backends.target import load
from backends.tune import tune
from backends.window import Window
from backends.workload import Tensor, Workload
from tests.backends.running import check

F = torch.nn.functional
CHANNELS = st.one_of(st.integers(1, 40), st.integers(1, 200), st.sampled_from([16, 37, 64, 256]))


@st.composite
def convolutions(draw):
    """Geometry of a convolution that exists; groups are a multiple of eight wide."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    inputs = draw(CHANNELS) if groups == 1 else groups * 8 * draw(st.integers(1, 9))
    outputs = groups * (draw(CHANNELS) if groups == 1 else draw(st.integers(1, 40)))
    kernel = draw(st.one_of(st.sampled_from([[1, 1], [3, 3]]), st.lists(st.integers(1, 5), min_size=2, max_size=2)))
    dilation, stride = ([draw(st.integers(1, 2)) for _ in "yx"] for _ in range(2))
    padding = [draw(st.integers(0, k // 2 + 2)) for k in kernel]
    least = [max(1, dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i]) for i in (0, 1)]
    size = [draw(st.integers(least[i], max(least[i], draw(st.sampled_from([9, 20, 57]))))) for i in (0, 1)]
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return draw(st.integers(1, 2)), inputs, outputs, kernel, size, geometry, draw(st.integers(0, 2**31))


def random_signs(rng, shape) -> tuple[np.ndarray, torch.Tensor]:
    """+1 and -1 [N, C, ...], and the same packed by NumPy."""
    values = rng.choice([-1.0, 1.0], shape)
    return values, torch.from_numpy(np.packbits(values > 0, axis=1, bitorder="little"))


@given(case=convolutions(), low=st.sampled_from([-math.inf, 0.0]), high=st.sampled_from([math.inf, 6.0]),
       image=st.sampled_from(["channels_last", "channels_last", "plain"]))
@settings(max_examples=60, deadline=None)
def test_a_convolution_of_signs_sums_what_lies_in_the_image(case, low, high, image):
    batch, inputs, outputs, kernel, size, geometry, seed = case
    rng = np.random.default_rng(seed)
    x, x_bits = random_signs(rng, (batch, inputs, *size))
    weight, weight_bits = random_signs(rng, (outputs, inputs // geometry["groups"], *kernel))
    scale, bias = (torch.from_numpy(rng.standard_normal(outputs, np.float32)) for _ in range(2))
    sums = F.conv2d(torch.from_numpy(x), torch.from_numpy(weight), **geometry)
    expected = (sums * scale.double().view(-1, 1, 1) + bias.double().view(-1, 1, 1)).clamp(low, high).float()
    check("binary_conv2d", "popcount", ["x", "weight", "scale", "bias"], [x_bits, weight_bits, scale, bias],
          {"channels": inputs, **geometry, "low": low, "high": high}, expected, image)


@given(case=convolutions())
@settings(max_examples=20, deadline=None)
def test_sums_of_signs_are_exact(case):
    batch, inputs, outputs, kernel, size, geometry, seed = case
    rng = np.random.default_rng(seed)
    x, x_bits = random_signs(rng, (batch, inputs, *size))
    weight, weight_bits = random_signs(rng, (outputs, inputs // geometry["groups"], *kernel))
    expected = F.conv2d(torch.from_numpy(x), torch.from_numpy(weight), **geometry).float()
    check("binary_conv2d", "popcount", ["x", "weight", "scale", "bias"],
          [x_bits, weight_bits, torch.ones(outputs), torch.zeros(outputs)],
          {"channels": inputs, **geometry, "low": -math.inf, "high": math.inf}, expected, tolerance=0)


@given(batch=st.integers(1, 3), inputs=st.one_of(st.integers(1, 300), st.just(4096)), outputs=st.integers(1, 70))
@settings(max_examples=25, deadline=None)
def test_a_dense_layer_of_signs_matches_plain_sums(batch, inputs, outputs):
    rng = np.random.default_rng(inputs)
    x, x_bits = random_signs(rng, (batch, inputs))
    weight, weight_bits = random_signs(rng, (outputs, inputs))
    scale, bias = (torch.from_numpy(rng.standard_normal(outputs, np.float32)) for _ in range(2))
    expected = torch.from_numpy((x @ weight.T * scale.numpy() + bias.numpy()).astype("float32"))
    check("binary_linear", "popcount", ["x", "weight", "scale", "bias"], [x_bits, weight_bits, scale, bias],
          {"channels": inputs, "low": -math.inf, "high": math.inf}, expected)


@given(shape=st.tuples(st.integers(1, 2), st.integers(1, 140), st.integers(1, 9), st.integers(1, 9)), flat=st.booleans(),
       integer=st.booleans(), image=st.sampled_from(["channels_last", "plain"]))
@settings(max_examples=40, deadline=None)
def test_signs_are_taken_and_packed_as_numpy_does(shape, flat, integer, image):
    torch.manual_seed(sum(shape))
    x = torch.randint(0, 256, shape).to(torch.uint8) if integer else torch.randn(shape)
    x, threshold = x.flatten(1) if flat else x, 117.0 if integer else 0.25
    x.view(-1)[0] = threshold
    expected = torch.from_numpy(np.packbits(x.numpy() >= np.float32(threshold), axis=1, bitorder="little"))
    check("binarize", "words", ["x"], [x], {"threshold": threshold}, expected, image)


def test_not_a_number_and_zeros_have_signs():
    x = torch.tensor([[math.nan, 0.0, -0.0, math.inf, -math.inf, 1e-45, -1e-45, 3.0, math.nan]])
    check("binarize", "words", ["x"], [x], {"threshold": 0.0}, torch.tensor([[0b10101110, 0]], dtype=torch.uint8))


@given(size=st.integers(1, 12), kernel=st.integers(1, 5), stride=st.integers(1, 3), padding=st.integers(0, 4),
       dilation=st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_positions_of_one_kind_read_the_same_taps(size, kernel, stride, padding, dilation):
    out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if out < 1:
        return
    window = Window(1, 8, 8, *((side, side) for side in (size, kernel, stride, padding, dilation, out)), 1)
    kinds, inside = Kinds.of(window, 0), {}
    for at in range(out):
        taps = tuple(tap for tap in range(kernel) if 0 <= at * stride + tap * dilation - padding < size)
        assert inside.setdefault(int(kinds.kind(at)), taps) == taps
    assert sorted(inside) == list(range(kinds.count))
    for kind, taps in inside.items():
        first = int(kinds.position(kind))
        assert taps == tuple(tap for tap in range(kernel) if 0 <= first * stride + tap * dilation - padding < size)


@pytest.mark.parametrize("target", ["local", "x86-64-v3"])
def test_no_option_is_refused(target):
    bits, outputs = Tensor((1, 5, 9, 9), "uint8", "channels_last"), Tensor((20,), "float32")
    geometry = (("stride", (1, 1)), ("padding", (1, 1)), ("dilation", (1, 1)), ("groups", 1))
    workload = Workload("binary_conv2d", (("x", bits), ("weight", Tensor((20, 5, 3, 3), "uint8")), ("scale", outputs), ("bias", outputs)),
                        (("channels", 37), *geometry, ("low", -math.inf), ("high", math.inf)),
                        Tensor((1, 20, 9, 9), "float32", "channels_last"))
    floats = Tensor((1, 37, 9, 9), "float32", "channels_last")
    for one in (workload, Workload("binarize", (("x", floats),), (("threshold", 0.0),), bits)):
        trials = tune(one, load(target))
        assert trials and not [trial.refused for trial in trials if trial.refused]


def test_the_roofline_counts_signs_not_bytes():
    bits, outputs = Tensor((1, 15, 9, 9), "uint8"), Tensor((20,), "float32")
    arguments = (("channels", 120), ("stride", (1, 1)), ("padding", (1, 1)), ("dilation", (1, 1)), ("groups", 5))
    workload = Workload("binary_conv2d", (("x", bits), ("weight", Tensor((20, 3, 3, 3), "uint8")), ("scale", outputs), ("bias", outputs)),
                        arguments, Tensor((1, 20, 9, 9), "float32"))
    assert flops(workload) == 2 * 81 * 20 * 24 * 9
