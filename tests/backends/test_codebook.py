"""Kernels of shared weights: codebooks and hashed tables unpacked, and dense layers computed straight from codes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.lowering import algorithms, name_of
from backends.target import load
from backends.tune import tune
from backends.unpacking import compound
from backends.workload import Tensor, Workload
from tests.backends.running import TARGET, check, run
from tests.spaces.test_codebook import codebooks, looked_up, packed


@given(case=codebooks())
@settings(max_examples=40, deadline=None)
def test_a_codebook_is_unpacked_exactly(case):
    codes, table, bits, shape = case
    check("unpack_codebook", "sequential", ["codes", "table"], [torch.from_numpy(packed(codes, bits).copy()), torch.from_numpy(table)],
          {"bits": bits, "shape": shape}, torch.from_numpy(looked_up(codes, table, shape)), out="plain")


@given(seed=st.integers(0, 2**32 - 1), entries=st.integers(1, 300), shape=st.lists(st.integers(1, 12), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_hashed_weights_are_unpacked_exactly(seed, entries, shape):
    table = torch.from_numpy(np.random.default_rng(seed).standard_normal(entries).astype("float32"))
    expected = torch.ops.netwright.unpack_hashed(table, seed, shape)
    check("unpack_hashed", "sequential", ["table"], [table], {"seed": seed, "shape": shape}, expected, out="plain")


@st.composite
def dense_layers(draw):
    """A dense layer of random shape on a codebook, and its inputs."""
    bits, length = draw(st.integers(1, 8)), draw(st.sampled_from([1, 1, 2, 3, 8]))
    outputs, inputs = draw(st.one_of(st.integers(1, 40), st.sampled_from([64, 129, 200]))), draw(st.integers(1, 90))
    segments, rng = -(-inputs // length), np.random.default_rng(draw(st.integers(0, 2**31)))
    entries = draw(st.one_of(st.integers(1, 2**bits), st.just(2**bits)))
    table = rng.standard_normal((draw(st.sampled_from([1, segments])), entries, length)).astype("float32")
    codes = rng.integers(0, entries, (outputs, segments, 1))
    x, bias = rng.standard_normal((draw(st.integers(1, 3)), inputs)), rng.standard_normal(outputs)
    return codes, table, bits, x.astype("float32"), bias.astype("float32")


def dense(table: np.ndarray, bits: int, x: np.ndarray, outputs: int, low: float = -math.inf) -> Workload:
    """The workload of a dense layer computed straight from its codes."""
    shape, inputs = (outputs, x.shape[1]), -(-x.shape[1] // table.shape[2])
    unpack = Workload("unpack_codebook", (("codes", Tensor((-(-outputs * inputs * bits // 8),), "uint8")),
                                          ("table", Tensor(table.shape, "float32"))),
                      (("bits", bits), ("shape", shape)), Tensor(shape, "float32"))
    layer = Workload("linear", (("x", Tensor(x.shape, "float32")), ("weight", Tensor(shape, "float32")),
                                ("bias", Tensor((outputs,), "float32"))),
                     (("low", low), ("high", math.inf)), Tensor((len(x), outputs), "float32"))
    return compound(layer, unpack)


@pytest.mark.parametrize("algorithm", algorithms("linear_unpack_codebook"), ids=name_of)
@given(case=dense_layers(), low=st.sampled_from([-math.inf, 0.0]))
@settings(max_examples=60, deadline=None)
def test_a_dense_layer_is_computed_from_its_codes(algorithm, case, low):
    codes, table, bits, x, bias = case
    workload = dense(table, bits, x, len(bias), low)
    if not algorithm.serves(workload, TARGET):
        return
    weight = looked_up(codes, table, list(workload["weight"].shape)).astype("float64")
    expected = np.maximum(x @ weight.T + bias, low)
    given_ = [torch.from_numpy(value.copy()) for value in (x, packed(codes, bits), table, bias)]
    for option in algorithm.options(workload, TARGET):
        out = run(algorithm, workload, option, given_)
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("target", ["local", "x86-64-v3"])
@pytest.mark.parametrize("entries, length", [(16, 1), (16, 4), (6, 2), (50, 1), (256, 1)])
def test_every_option_is_right_on_every_target(target, entries, length):
    table, x = np.zeros((1, entries, length), "float32"), np.zeros((1, 37), "float32")
    trials = tune(dense(table, max(1, (entries - 1).bit_length()), x, 83), load(target))
    assert not [trial.refused for trial in trials if trial.refused]


@pytest.mark.parametrize("algorithm", algorithms("linear_unpack_codebook"), ids=name_of)
@pytest.mark.parametrize("inputs", ["zeros", "outlier", "tiny", "one sign"])
@pytest.mark.parametrize("table", ["normal", "zeros", "one large", "one sign"])
def test_extreme_inputs_and_tables_keep_the_precision(algorithm, inputs, table):
    rng = np.random.default_rng(0)
    x, values = rng.standard_normal((1, 301)), rng.standard_normal((1, 16, 1))
    x = {"zeros": 0 * x, "outlier": np.where(np.arange(301) == 77, 1e3, x), "tiny": 1e-20 * x, "one sign": np.abs(x)}[inputs]
    values = {"normal": values, "zeros": 0 * values, "one sign": np.abs(values),
              "one large": np.where(np.arange(16)[:, None] == 3, 100, values)}[table]
    x, values, bias = x.astype("float32"), values.astype("float32"), np.zeros(64, "float32")
    codes = rng.integers(0, 16, (64, 301, 1))
    workload = dense(values, 4, x, 64)
    if not algorithm.serves(workload, TARGET):
        return
    expected = x.astype("float64") @ looked_up(codes, values, [64, 301]).astype("float64").T
    given_ = [torch.from_numpy(value.copy()) for value in (x, packed(codes, 4), values, bias)]
    out = run(algorithm, workload, algorithm.options(workload, TARGET)[0], given_)
    assert np.abs(out - expected).max() <= 1e-5 * np.abs(expected).max()


def test_kernels_of_packed_codes_refuse_what_their_registers_do_not_hold():
    """Layers of fewer outputs than a vector, and product codes of more than 16 entries, are computed on unpacked weights."""
    x = np.zeros((1, 20), "float32")
    for entries, length, outputs in ((16, 1, 3), (17, 2, 64)):
        workload = dense(np.zeros((1, entries, length), "float32"), 5, x, outputs)
        assert not [a for a in algorithms("linear_unpack_codebook") if a.serves(workload, TARGET)]


def test_threads_share_the_blocks_of_a_dense_layer():
    target = replace(load("local"), threads=2)
    table, x = np.zeros((1, 16, 1), "float32"), np.zeros((1, 1024), "float32")
    trials = tune(dense(table, 4, x, 1024), target)
    assert not [trial.refused for trial in trials if trial.refused]
