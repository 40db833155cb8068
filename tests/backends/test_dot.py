"""Dot products of bytes on the kinds of processor that this machine can stand in for: exact, whatever the bytes."""

import math
import re
from dataclasses import replace

import pytest
import torch

from backends.lowering import algorithms, choices, kernel, name_of
from backends.target import load
from backends.workload import Workload
from tests.backends.running import TARGET, check, tensor_of
from tests.backends.test_codegen import target_of
from tests.backends.test_kernels import integer_parameters, integer_result

PROCESSORS = {"x86-64-v3": "avx2", "x86-64": "sse2", "skylake-avx512": "avx512bw"}
SHAPES = [  # inputs, side, outputs, kernel, stride, padding, dilation, groups
    (3, 19, 16, 3, 2, 1, 1, 1), (37, 9, 53, 3, 1, 1, 1, 1), (1, 7, 1, 5, 1, 2, 1, 1), (6, 13, 33, 2, 1, 0, 2, 1),
    (64, 1, 10, 1, 1, 0, 1, 1), (40, 8, 24, 1, 2, 0, 1, 4), (21, 11, 15, 3, 2, 2, 1, 3), (5, 57, 7, 7, 3, 3, 1, 1)]
TO_FLOAT = {"shift": 0, "out_zero_point": 0, "low": -math.inf, "high": math.inf}
NAMES = ["x", "weight", "bias", "scale"]


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
    torch.manual_seed(side)
    x = torch.randint(0, 256, (2, inputs, side, side), dtype=torch.uint8)
    weight = torch.randint(-128, 128, (outputs, inputs // groups, kernel_side, kernel_side), dtype=torch.int8)
    parameters, rest = integer_parameters(outputs, False)
    rest["shift"] = 33 + side % 20
    padded = torch.nn.functional.pad(x.double(), [padding] * 4, value=200)
    sums = torch.nn.functional.conv2d(padded, weight.double(), None, stride, 0, dilation, groups).long()
    geometry = {"stride": [stride] * 2, "padding": [padding] * 2, "dilation": [dilation] * 2, "groups": groups, "zero_point": 200}
    for algorithm in algorithms("int8_conv2d"):
        check("int8_conv2d", name_of(algorithm), NAMES, [x, weight, *parameters], {**geometry, **rest},
              integer_result(sums, parameters, rest, False), target=target)


@pytest.mark.parametrize("x", [0, 127, 128, 255])
@pytest.mark.parametrize("weight", [-128, 127])
@pytest.mark.parametrize("inputs", [1, 4096])
def test_dense_layers_of_extremes_are_exact_on_every_processor(target, x, weight, inputs):
    images, weights = torch.full((1, inputs), x, dtype=torch.uint8), torch.full((37, inputs), weight, dtype=torch.int8)
    parameters = [torch.full((37,), -5, dtype=torch.int32), torch.ones(37)]
    for algorithm in algorithms("int8_linear"):
        check("int8_linear", name_of(algorithm), NAMES, [images, weights, *parameters], TO_FLOAT,
              torch.full((1, 37), float(inputs * x * weight - 5)), target=target)


@pytest.mark.parametrize("mcpu, triple, product", [("cascadelake", "", r"vpdpbusd\s.*zmm"), ("skylake-avx512", "", r"vpmaddwd\s.*zmm"),
                                                   ("x86-64-v3", "", r"vpmaddwd\s.*ymm"),
                                                   ("cortex-a76", "aarch64-linux-gnu", r"sdot\s+v\d+\.4s"),
                                                   ("cortex-a72", "aarch64-linux-gnu", r"smull2?\s+v\d+\.8h"),
                                                   ("cortex-a72", "aarch64-linux-gnu", r"sadalp\s+v\d+\.4s")])
def test_bytes_are_multiplied_in_full_vectors(mcpu, triple, product, tmp_path):
    import tvm

    target = target_of(tmp_path, mcpu, triple)
    x, weight = torch.zeros(1, 64, 14, 14, dtype=torch.uint8), torch.zeros(64, 64, 3, 3, dtype=torch.int8)
    bias = torch.zeros(64, dtype=torch.int32)
    tensors = tuple((name, tensor_of(value, "channels_last" if name == "x" else "plain"))
                    for name, value in zip(NAMES, (x, weight, bias, bias)))
    arguments = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1, "zero_point": 3, "shift": 40,
                 "out_zero_point": 0, "low": 0.0, "high": 255.0}
    workload = Workload("int8_conv2d", tensors, tuple(arguments.items()), tensor_of(x, "channels_last"))
    algorithm, option = choices(workload, target)[0]
    lowering = algorithm.lower(workload, target, option)
    function = kernel([(workload, lowering, 0)], workload.result).with_attr("global_symbol", "main")
    assembly = tvm.compile(tvm.IRModule({"main": function}), target.tvm()).mod.inspect_source("asm")
    assert len(re.findall(product, assembly)) >= 8
