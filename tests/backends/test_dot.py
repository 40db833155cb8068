"""Dot products of bytes on the kinds of processor that this machine can stand in for: exact, whatever the bytes."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from backends.lowering import algorithms, choices, kernel
from backends.target import load
from tests.backends.running import TARGET, failures
from tests.backends.runs import every_option, inputs_of, workload_of
from tests.backends.test_codegen import target_of
from tests.cases import Case, called

PROCESSORS = {"x86-64-v3": "avx2", "x86-64": "sse2", "skylake-avx512": "avx512bw"}
SHAPES = [  # inputs, side, outputs, kernel, stride, padding, dilation, groups
    (3, 19, 16, 3, 2, 1, 1, 1), (37, 9, 53, 3, 1, 1, 1, 1), (1, 7, 1, 5, 1, 2, 1, 1), (6, 13, 33, 2, 1, 0, 2, 1),
    (64, 1, 10, 1, 1, 0, 1, 1), (40, 8, 24, 1, 2, 0, 1, 4), (21, 11, 15, 3, 2, 2, 1, 3), (5, 57, 7, 7, 3, 3, 1, 1)]
TO_FLOAT = {"low": -math.inf, "high": math.inf}


@pytest.fixture(params=[*PROCESSORS, "any other"])
def target(request, tmp_path):
    """A target whose code runs here."""
    if request.param == "any other":
        return replace(TARGET, features=frozenset())
    if PROCESSORS[request.param] not in load("local").features:
        pytest.skip(f"this machine has no {PROCESSORS[request.param]}")
    return target_of(tmp_path, request.param, "")


@pytest.mark.parametrize("shape", SHAPES)
def test_convolutions_are_exact_on_every_processor(target, shape):
    inputs, side, outputs, kernel_side, stride, padding, dilation, groups = shape
    rng = np.random.default_rng(side)
    tensors = {"x": rng.integers(0, 256, (2, inputs, side, side), np.uint8),
               "weight": rng.integers(-128, 128, (outputs, inputs // groups, kernel_side, kernel_side), np.int8),
               "bias": rng.integers(-20_000, 20_000, outputs, np.int32), "scale": rng.uniform(0, 2.0 ** -(1 + side % 20), outputs).astype(np.float32)}
    assert_exact(called("int8_conv2d", 0, tensors, {
        "stride": [stride] * 2, "padding": [padding] * 2, "dilation": [dilation] * 2, "groups": groups, "zero_point": 200,
        "out_zero_point": 9, "low": 0.0, "high": 255.0}), target)


@pytest.mark.parametrize("x", [0, 127, 128, 255])
@pytest.mark.parametrize("weight", [-128, 127])
@pytest.mark.parametrize("inputs", [1, 4096])
def test_dense_layers_of_extremes_are_exact_on_every_processor(target, x, weight, inputs):
    tensors = {"x": np.full((1, inputs), x, np.uint8), "weight": np.full((37, inputs), weight, np.int8),
               "bias": np.full(37, -5, np.int32), "scale": np.ones(37, np.float32)}
    one = called("int8_linear", 0, tensors, TO_FLOAT)
    assert (one.expected == inputs * x * weight - 5).all()
    assert_exact(one, target)


def assert_exact(one: Case, target) -> None:
    """Every option of every kernel file that serves the case computes it."""
    workload = workload_of(one)
    serving = [algorithm for algorithm in algorithms(one.op) if algorithm.serves(workload, target)]
    runs = [run for a in serving for run in every_option(a, workload, inputs_of(one), one.expected, target)]
    assert runs and not failures(runs, target)


@pytest.mark.parametrize("mcpu, triple, product", [("cascadelake", "", r"vpdpbusd\s.*zmm"), ("skylake-avx512", "", r"vpmaddwd\s.*zmm"),
                                                   ("x86-64-v3", "", r"vpmaddwd\s.*ymm"),
                                                   ("cortex-a76", "aarch64-linux-gnu", r"sdot\s+v\d+\.4s"),
                                                   ("cortex-a72", "aarch64-linux-gnu", r"smull2?\s+v\d+\.8h"),
                                                   ("cortex-a72", "aarch64-linux-gnu", r"sadalp\s+v\d+\.4s")])
def test_bytes_are_multiplied_in_full_vectors(mcpu, triple, product, tmp_path):
    import tvm

    target = target_of(tmp_path, mcpu, triple)
    tensors = {"x": np.zeros((1, 64, 14, 14), np.uint8), "weight": np.zeros((64, 64, 3, 3), np.int8),
               "bias": np.zeros(64, np.int32), "scale": np.ones(64, np.float32)}
    workload = workload_of(called("int8_conv2d", 0, tensors, {
        "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1, "zero_point": 3,
        "out_zero_point": 0, "low": 0.0, "high": 255.0}))
    algorithm, option = choices(workload, target)[0]
    lowering = algorithm.lower(workload, target, option)
    function = kernel([(workload, lowering, 0)], workload.result).with_attr("global_symbol", "main")
    assembly = tvm.compile(tvm.IRModule({"main": function}), target.tvm()).mod.inspect_source("asm")
    assert len(re.findall(product, assembly)) >= 8
