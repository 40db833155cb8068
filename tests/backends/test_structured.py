"""Kernels of structured weights: unpacked, and layers computed straight from them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.lowering import algorithms
from backends.target import load
from backends.tune import tune
from backends.unpacking import compound
from backends.workload import Step, Tensor, Workload
from tests.backends.running import TARGET, check, run, tensor_of

FACTORS = st.integers(1, 3).flatmap(lambda d: st.lists(st.integers(1, 6), min_size=d + 1, max_size=d + 1))
LAYERS = ("linear_unpack_tensor_train", "conv2d_unpack_tensor_train", "linear_unpack_circulant", "conv2d_unpack_circulant")
NONE = {"low": -math.inf, "high": math.inf}


def layer_of(batch: int, size: tuple[int, int], weight: torch.Tensor, image: bool) -> tuple[str, torch.Tensor, Tensor, Tensor, dict]:
    """An op, its input and the tensors of its input and result, and its arguments."""
    outputs, inputs = weight.shape[:2]
    x = torch.randn(batch, inputs, *(size if image else ()))
    out = torch.empty(batch, outputs, *(size if image else ()))
    geometry = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1} if image else {}
    return "conv2d" if image else "linear", x, tensor_of(x, "channels_last"), tensor_of(out, "channels_last"), {**geometry, **NONE}


def check_layer(unpack: Workload, stored: list[torch.Tensor], weight: torch.Tensor, batch, size, image) -> None:
    """Every kernel of the layer and a residual sum from packed weights, against a product with the unpacked ones in
    float64."""
    op, x, given, out, arguments = layer_of(batch, size, weight, image)
    bias, other = torch.randn(len(weight)), torch.randn(out.shape)
    plain = Workload(op, (("x", given), ("weight", unpack.out), ("bias", tensor_of(bias))), tuple(arguments.items()), out,
                     (Step("add", (None, out), (), out),))
    workload = compound(plain, unpack)
    expected = torch.einsum("oi,ni...->no...", weight.flatten(1).double(), x.double())
    expected = (expected + bias.double().view(-1, *[1] * (x.dim() - 2)) + other).float().numpy()
    served = [a for a in algorithms(workload.op) if a.serves(workload, TARGET)]
    assert workload.op in LAYERS and served
    for algorithm in served:
        for option in algorithm.options(workload, TARGET):
            result = run(algorithm, workload, option, [x, *stored, bias, other])
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def train_of(outputs: list[int], inputs: list[int], rank: int, image: bool) -> tuple[Workload, torch.Tensor, torch.Tensor]:
    """A random train: its workload, cores and, by NumPy, the weights it stands for."""
    ranks = [rank] * (len(outputs) - 1)
    ends = [1, *ranks, 1]
    cores = [np.random.default_rng(k).standard_normal((ends[k], m, n, ends[k + 1])).astype("float32")
             for k, (m, n) in enumerate(zip(outputs, inputs))]
    shape = (math.prod(outputs), math.prod(inputs), *([1, 1] if image else []))
    weight = np.ones((1, 1, 1))
    for core in cores:
        weight = np.stack([sum(np.kron(weight[r], core[r, :, :, s].astype(float)) for r in range(core.shape[0]))
                           for s in range(core.shape[3])])
    flat = torch.from_numpy(np.concatenate([core.ravel() for core in cores]))
    arguments = (("outputs", tuple(outputs)), ("inputs", tuple(inputs)), ("ranks", tuple(ranks)), ("shape", shape))
    unpack = Workload("unpack_tensor_train", (("cores", tensor_of(flat)),), arguments, Tensor(shape, "float32"))
    return unpack, flat, torch.from_numpy(weight[0]).reshape(shape)


@given(outputs=FACTORS, seed=st.integers(0, 2**31), rank=st.integers(1, 5), batch=st.integers(1, 3),
       size=st.tuples(st.integers(1, 6), st.integers(1, 6)), image=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_layer_is_computed_core_by_core(outputs, seed, rank, batch, size, image):
    inputs = np.random.default_rng(seed).integers(1, 7, len(outputs)).tolist()
    unpack, cores, weight = train_of(outputs, inputs, rank, image)
    check_layer(unpack, [cores], weight, batch, size, image)


@pytest.mark.parametrize("outputs, inputs, rank", [([16, 16], [16, 16], 1), ([37, 2], [5, 40], 3), ([8, 8, 8], [8, 8, 4], 6)])
@pytest.mark.parametrize("image", [False, True])
def test_a_layer_of_real_size_is_computed_core_by_core(outputs, inputs, rank, image):
    unpack, cores, weight = train_of(outputs, inputs, rank, image)
    check_layer(unpack, [cores], weight, 1, (14, 14), image)


@given(outputs=FACTORS, seed=st.integers(0, 2**31), rank=st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_a_train_is_multiplied_out(outputs, seed, rank):
    inputs = np.random.default_rng(seed).integers(1, 7, len(outputs)).tolist()
    unpack, cores, weight = train_of(outputs, inputs, rank, False)
    check("unpack_tensor_train", "multiplied", ["cores"], [cores], dict(unpack.arguments), weight.float())


def circulant_of(outputs: int, inputs: int, block: int, image: bool) -> tuple[Workload, torch.Tensor, torch.Tensor]:
    """Random circulant blocks: their workload, first columns and, rolled by NumPy, the weights they stand for."""
    down, across = -(-outputs // block), -(-inputs // block)
    values = np.random.default_rng(block).standard_normal((down, across, block)).astype("float32")
    blocks = [[np.stack([np.roll(values[p, q], j) for j in range(block)], 1) for q in range(across)] for p in range(down)]
    weight = np.block(blocks)[:outputs, :inputs]
    shape = (outputs, inputs, *([1, 1] if image else []))
    unpack = Workload("unpack_circulant", (("values", Tensor(values.shape, "float32")),), (("shape", shape),), Tensor(shape, "float32"))
    return unpack, torch.from_numpy(values), torch.from_numpy(weight).reshape(shape)


@given(down=st.integers(1, 4), across=st.integers(1, 4), block=st.integers(2, 20), batch=st.integers(1, 3),
       size=st.tuples(st.integers(1, 6), st.integers(1, 6)), image=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_layer_is_computed_from_spectra(down, across, block, batch, size, image):
    unpack, values, weight = circulant_of(down * block, across * block, block, image)
    check_layer(unpack, [values], weight, batch, size, image)


@pytest.mark.parametrize("block", [4, 16, 64])
@pytest.mark.parametrize("image", [False, True])
def test_a_layer_of_real_size_is_computed_from_spectra(block, image):
    unpack, values, weight = circulant_of(256, 192, block, image)
    check_layer(unpack, [values], weight, 1, (14, 14), image)


@given(outputs=st.integers(1, 60), inputs=st.integers(1, 60), block=st.integers(2, 20), integer=st.booleans())
@settings(max_examples=20, deadline=None)
def test_circulant_blocks_are_turned_exactly(outputs, inputs, block, integer):
    unpack, values, weight = circulant_of(outputs, inputs, block, False)
    values, weight = ((30 * t).to(torch.int8) if integer else t for t in (values, weight.float()))
    check("unpack_circulant", "turned", ["values"], [values], dict(unpack.arguments), weight)


@pytest.mark.parametrize("made", [lambda image: train_of([8, 5], [6, 7], 3, image), lambda image: circulant_of(40, 32, 8, image)])
def test_structured_weights_are_refused_on_no_target(made):
    for image in (False, True):
        unpack, _, weight = made(image)
        op, _, given, out, arguments = layer_of(1, (5, 5), weight, image)
        plain = Workload(op, (("x", given), ("weight", unpack.out), ("bias", Tensor((40,), "float32"))), tuple(arguments.items()), out)
        for target in ("local", "x86-64-v3"):
            for workload in (unpack, compound(plain, unpack)):
                trials = tune(workload, load(target))
                assert trials and not [trial.refused for trial in trials if trial.refused]

