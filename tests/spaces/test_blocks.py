"""Every block of the folder: it builds, its roles are its layers, it trains, it freezes exactly."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.build import build
from spaces.candidate import Candidate
from spaces.freeze import freeze
from spaces.gene import SpaceError, load, parse
from tests.by_name import BLOCKS

BODIES = [n for n in BLOCKS if not load("blocks", n).HEAD]
HEADS = [n for n in BLOCKS if load("blocks", n).HEAD]
VARIANTS = [*BLOCKS, "conv-kernel5-norm_none", "fire-squeeze0.5-share0.25-norm_batch", "mbconv-expand1",
            "fire-bypass_complex", "mbconv-kernel5-expand3-se0.25", "depthwise_separable-kernel5-act_relu6",
            "conv_classifier-act_none"]


def line(token: str) -> str:
    """A small candidate around a block."""
    if parse("blocks", token).HEAD:
        return f"conv:12/1 {token}:5/1"
    return f"conv:12/1 {token}:12/1 {token}:{12 if token == 'skip' else 20}/2 classifier:5/1"


def parameters(text: str, shape) -> int:
    """Weights, biases and batch-norm affines of a candidate."""
    return sum(p.numel() for p in build(Candidate.parse(text), shape).parameters())


@pytest.mark.parametrize("token", VARIANTS)
def test_a_block_gives_the_promised_shape_and_trains(token):
    network = build(Candidate.parse(line(token)), (3, 17, 13))
    out = network(torch.randn(2, 3, 17, 13))
    out.logsumexp(1).sum().backward()
    assert out.shape == (2, 5)
    assert all(p.grad is not None for p in network.parameters())


@given(side=st.integers(2, 19), width=st.integers(2, 33), stride=st.integers(1, 2), index=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_strided_block_rounds_sizes_up(side, width, stride, index):
    token = BODIES[index % len(BODIES)]
    inputs = width if token == "skip" else 7
    module = parse("blocks", token).build(inputs, width, stride).eval()
    assert module(torch.randn(1, inputs, side, side)).shape == (1, width, *[math.ceil(side / stride)] * 2)


@pytest.mark.parametrize("token", VARIANTS)
def test_roles_are_the_layers_of_the_module_and_of_the_kind_they_claim(token):
    block = parse("blocks", token)
    module = block.build(12, 12, 1)
    layers = {n: m for n, m in module.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)}
    assert set(layers) == set(block.roles())
    for name, role in block.roles().items():
        layer = layers[name]
        if isinstance(layer, torch.nn.Linear):
            kind = DENSE
        elif layer.groups > 1:
            kind = DEPTHWISE
        else:
            kind = POINTWISE if layer.kernel_size == (1, 1) else CONV
        assert role.kind == kind


@pytest.mark.parametrize("token", VARIANTS)
def test_a_block_computes_the_same_after_freezing(token, warm):
    network = build(Candidate.parse(line(token)), (3, 16, 16))
    warm((3, 16, 16))(network)
    x = torch.randn(8, 3, 16, 16)
    with torch.no_grad():
        expected = network.eval()(x)
    torch.testing.assert_close(freeze(network)(x), expected, rtol=1e-4, atol=1e-5)



def test_squeezenet_has_its_published_parameters():
    """[92]: 1.0 has 1,248,424 parameters, 1.1 has 1,235,496; the pools stand in front of other fires."""
    tail = "fire:384/1 fire:384/1 fire:512/1 fire:512/1 conv_classifier:1000/1"
    v10 = f"conv-kernel7-norm_none:96/2 fire:128/2 fire:128/1 fire:256/1 fire:256/2 {tail}"
    v11 = f"conv-norm_none:64/2 fire:128/2 fire:128/1 fire:256/2 fire:256/1 {tail}"
    assert parameters(v10, (3, 224, 224)) == 1_248_424
    assert parameters(v11, (3, 224, 224)) == 1_235_496


def mobilenet(alpha: float) -> str:
    """MobileNet V1 of width multiplier alpha for 1,000 classes."""
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    body = " ".join(f"depthwise_separable:{int(w * alpha)}/{s}" for w, s in plan)
    return f"conv:{int(32 * alpha)}/2 {body} classifier:1000/1"


@pytest.mark.parametrize("alpha, count", [(1, 4_231_976), (0.75, 2_585_560), (0.5, 1_331_592), (0.25, 470_072)])
def test_mobilenet_has_its_published_parameters(alpha, count):
    assert parameters(mobilenet(alpha), (3, 224, 224)) == count


def test_mobilenet_v2_has_its_published_parameters():
    """3,504,872 at width 1: the count of every public implementation of the paper's table 2."""
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    body = " ".join(f"mbconv-expand{t}:{c}/{s if i == 0 else 1}" for t, c, n, s in rows for i in range(n))
    text = f"conv:32/2 {body} conv-kernel1:1280/1 classifier:1000/1"
    assert parameters(text, (3, 224, 224)) == 3_504_872


def test_a_stride_past_the_image_names_the_layer_and_the_size():
    with pytest.raises(SpaceError, match=r"layer 3 .*stride 2 is past the 1x1 image"):
        build(Candidate.parse("conv:8/2 conv:8/2 conv:8/2 conv:8/2 classifier:10/1"), (1, 8, 8))


@pytest.mark.parametrize("text, message", [
    ("skip:9/1", "keeps the width"), ("fire-bypass_simple:9/1", "bypass_complex"), ("fire:1/1", "leaves none")])
def test_an_impossible_width_names_the_layer(text, message):
    with pytest.raises(SpaceError, match=f"layer 1 .*{message}"):
        build(Candidate.parse(f"conv:8/1 {text} classifier:10/1"), (1, 8, 8))
