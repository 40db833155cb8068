"""Weights of few bits: what is stored against NumPy's packing, what the methods round to, and what they refuse."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import spaces.ops
from spaces.bits import codes_of, pack_codes
from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import prepare
from spaces.freeze import freeze
from spaces.gene import SpaceError, parse
from spaces.prepared import bitmap
from spaces.site import Calibration

spaces.ops.register_all()
OPS = torch.ops.netwright
SHAPES = st.one_of(st.tuples(st.integers(1, 60)), st.tuples(st.integers(1, 9), st.integers(1, 70)),
                   st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)))
SEEDS = st.integers(0, 2**31)
# Bits of a stored weight, planes together.
FORMATS = {"intn-bits2": 2, "intn-bits3": 3, "intn": 4, "intn-bits5": 5, "intn-bits6": 6, "intn-bits7": 7, "pow2": 4,
           "pow2-bits3": 3, "ternary": 2, "signs": 1}


def packed(codes: np.ndarray, bits: int) -> torch.Tensor:
    """Rows of codes as NumPy packs their bits, lowest first."""
    rows = codes.reshape(len(codes) if codes.ndim > 1 else 1, -1)
    stream = (rows[:, :, None] >> np.arange(bits)) & 1
    return torch.from_numpy(np.packbits(stream.reshape(len(rows), -1).astype("uint8"), axis=1, bitorder="little"))


def random_codes(seed: int, shape, bits: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << bits, shape)


@given(shape=SHAPES, bits=st.integers(1, 8), seed=SEEDS)
@settings(max_examples=200, deadline=None)
def test_codes_are_packed_as_numpy_packs_them(shape, bits, seed):
    codes = random_codes(seed, shape, bits)
    np.testing.assert_array_equal(pack_codes(torch.from_numpy(codes), bits).numpy(), packed(codes, bits).numpy())
    np.testing.assert_array_equal(codes_of(packed(codes, bits), bits, list(shape)).numpy(), codes)


@pytest.mark.parametrize("call, words", [
    (lambda w: OPS.unpack_bits(w, 3, [2, 9]), r"uint8 \[2, 3\].*\[2, 9\] codes of 3 bits.*uint8 \[2, 4\]"),
    (lambda w: OPS.unpack_bits(w, 8, [2, 3]), "bits is 8; it can be 2 to 7"),
    (lambda w: OPS.unpack_pow2(w, 5, [2, 3]), "bits is 5; it can be 3 to 4"),
    (lambda w: OPS.unpack_signs(w.to(torch.int8), [2, 24]), "packed is torch.int8"),
    (lambda w: OPS.unpack_ternary(w, w[:1], [2, 24]), r"uint8 \[1, 3\]"),
])
def test_tensors_that_do_not_hold_the_weights_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(torch.zeros(2, 3, dtype=torch.uint8))


def layer_of(token: str, weight: torch.Tensor):
    """A dense layer with these weights, compressed, that has seen inputs of -1 to 1."""
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data = weight.clone()
    layer = parse("compression", token).prepare(layer)
    layer.low.fill_(-1.0)
    layer.high.fill_(1.0)
    return layer


def deployed(layer) -> torch.Tensor:
    """The weights that the frozen layer computes with."""
    frozen = layer.deploy(None, -math.inf, math.inf).tensors
    form = frozen["weight"]
    op = getattr(OPS, form.op).default
    steps = op(*(form.arguments[argument.name] for argument in op._schema.arguments))
    return steps * (frozen["scale"] / layer.wanted().scale)[:, None]


def gaussian(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("token", FORMATS)
def test_what_is_stored_is_what_was_trained_on(token):
    weight = gaussian(7, 45)
    layer = layer_of(token, weight)
    torch.testing.assert_close(deployed(layer), layer.realised(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("bits", range(2, 8))
def test_integer_weights_are_the_nearest_steps_of_their_channel(bits):
    weight = gaussian(5, 40)
    most = 2 ** (bits - 1) - 1
    step = weight.abs().amax(1, keepdim=True).numpy() / most
    expected = np.rint(weight.numpy() / step) * step
    out = deployed(layer_of(f"intn-bits{bits}", weight)).numpy()
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert np.abs(np.rint(out / step)).max() == most


@pytest.mark.parametrize("bits, largest", [(3, 2), (4, 6)])
def test_powers_round_the_exponent_and_hold_the_largest_weight(bits, largest):
    """[30], AP2: 2^round(log2 |w|), in units of the largest weight; what is below half of the smallest power is zero."""
    weight = gaussian(5, 400)
    unit = weight.abs().amax(1, keepdim=True).numpy() / 2**largest
    ratio = np.abs(weight.numpy()) / unit
    expected = np.sign(weight.numpy()) * np.where(ratio < 0.5, 0, 2.0 ** np.clip(np.rint(np.log2(ratio)), 0, None)) * unit
    np.testing.assert_allclose(deployed(layer_of("pow2" if bits == 4 else "pow2-bits3", weight)).numpy(), expected, rtol=1e-5)


def test_ternary_weights_of_a_gaussian_have_the_published_error():
    """[36]: the rule of 0.7 gives 0.1917 sigma^2, where the best threshold has 0.1902; signs have 1 - 2 / pi ([31])."""
    weight = gaussian(1, 1_000_000)
    errors = {token: float((deployed(layer_of(token, weight)) - weight).square().mean()) for token in ("ternary", "signs")}
    assert errors["ternary"] == pytest.approx(0.1917, abs=0.001)
    assert errors["signs"] == pytest.approx(1 - 2 / math.pi, abs=0.001)


@pytest.mark.parametrize("token", ["ternary", "signs"])
def test_no_other_scale_of_the_same_signs_is_nearer(token):
    weight = gaussian(3, 200)
    out = deployed(layer_of(token, weight))
    error = (out - weight).square().sum(1)
    for factor in (0.97, 1.03):
        assert bool(((factor * out - weight).square().sum(1) > error).all())


@pytest.mark.parametrize("token", FORMATS)
def test_gradients_of_the_realised_weights_reach_the_trained_ones_unchanged(token):
    layer, x, out = layer_of(token, gaussian(4, 12)), torch.rand(6, 12) - 0.5, torch.randn(6, 4)
    layer(x).backward(out)
    wanted = layer.wanted()
    seen = torch.fake_quantize_per_tensor_affine(x, wanted.scale, wanted.zero_point, 0, 255)
    torch.testing.assert_close(layer.layer.weight.grad, out.t() @ seen)


@pytest.mark.parametrize("token", FORMATS)
@pytest.mark.parametrize("shape", [(37, 75), (1, 1), (8, 64)])
def test_the_payload_on_disk_is_the_bits_of_each_row_in_whole_bytes(token, shape, tmp_path):
    torch.manual_seed(0)
    network = torch.nn.Sequential(layer_of(token, torch.randn(shape)))
    state = freeze(network).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    data = (tmp_path / "weights.safetensors").read_bytes()
    header = int.from_bytes(data[:8], "little")
    planes, bits = (2, 1) if token == "ternary" else (1, FORMATS[token])
    weights = planes * shape[0] * math.ceil(shape[1] * bits / 8)
    assert len(data) - 8 - header == weights + 2 * 4 * shape[0], "weights, and bias and scale of each channel"
    assert json.loads(data[8:8 + header]).keys() - {"__metadata__"} == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in load_file(tmp_path / "weights.safetensors").items())


@pytest.mark.parametrize("token", ["intn-bits4", "pow2", "ternary"])
def test_masked_weights_of_few_bits_are_stored_as_bitmap_and_packed_values(token):
    layer = parse("compression", "magnitude-keep0.2").prepare(torch.nn.Linear(64, 40))
    layer = parse("compression", token).prepare(layer)
    layer.high.fill_(1.0)
    form = layer.deploy(None, -math.inf, math.inf).tensors["weight"]
    steps = layer.steps.round(layer.layer.weight.detach(), layer.weight_scale()).to(torch.int8)
    assert form.op == "unpack_bitmap" and form.stored_bytes < layer.steps.store(steps).stored_bytes
    assert form.stored_bytes == bitmap(steps, layer.steps.store(steps[steps != 0])).stored_bytes
    assert not bool(steps[layer.layer.weight == 0].any())


def test_a_channel_of_zeros_stays_zero_where_the_format_has_a_zero():
    weight = gaussian(3, 20)
    weight[1] = 0
    for token in ("intn", "pow2", "ternary"):
        assert bool((deployed(layer_of(token, weight))[1] == 0).all())


@pytest.mark.parametrize("token, value, words", [("signs", 0.0, "signs: the weights of channel 1 have scale 0"),
                                                 ("intn", math.nan, "intn: .* channel 1 have scale nan"),
                                                 ("pow2", math.inf, "pow2: .* channel 1 have scale inf"),
                                                 ("ternary", math.nan, "ternary: .* channel 1 have scale nan"),
                                                 ("int8", math.nan, "int8: .* channel 1 have scale nan")])
def test_a_scale_that_is_zero_or_not_finite_names_layer_and_channel(token, value, words):
    layer = layer_of(token, gaussian(3, 20))
    layer.layer.weight.data[1] = value
    with pytest.raises(SpaceError, match=f"^0: {words}"):
        freeze(torch.nn.Sequential(layer))


def test_signs_of_masked_weights_are_refused_with_the_layer(warm):
    candidate, shape = Candidate.parse("conv:8/1 [*=magnitude-keep0.5+signs] classifier:5/1"), (3, 8, 8)
    with pytest.raises(SpaceError, match=r"^layers.0.conv: signs: the weights are masked.*ternary"):
        prepare(build(candidate, shape), candidate.chains, Calibration.unlabelled(torch.randn(2, *shape)), warm(shape))
