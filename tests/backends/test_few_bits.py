"""Dense layers straight from weights of few bits: no sum saturates, the code is in full vectors; networks of all formats."""

import math
import re

import numpy as np
import pytest
import torch

from backends.lowering import algorithms, choices, kernel
from backends.target import load
from backends.unpacking import compound
from backends.verify import verify
from backends.workload import Tensor, Workload
from spaces.freeze import freeze
from spaces.gene import parse
from tests.backends.running import TARGET, failures
from tests.backends.runs import every_option, inputs_of, workload_of
from tests.backends.test_codegen import target_of
from tests.backends.test_compile import compiled
from tests.cases import called, on_packed


def unpack_workload(op: str, bits: int, shape: tuple[int, ...]) -> Workload:
    """The op that unpacks weights of a shape."""
    rows, count = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, shape[0])
    names = {"unpack_ternary": ["active", "negative"], "unpack_signs": ["negative"]}.get(op, ["packed"])
    plane = Tensor((rows, -(-count * bits // 8)), "uint8")
    arguments = {"shape": shape} if len(names) == 2 or op == "unpack_signs" else {"bits": bits, "shape": shape}
    return Workload(op, tuple((name, plane) for name in names), tuple(arguments.items()), Tensor(shape, "int8"))


def dense_workload(unpack: Workload, batch: int, rest: dict, out: str) -> Workload:
    """The dense layer that reads these weights packed."""
    outputs, inputs = unpack.out.shape
    tensors = (("x", Tensor((batch, inputs), "uint8")), ("weight", unpack.out), ("bias", Tensor((outputs,), "int32")),
               ("scale", Tensor((outputs,), "float32")))
    return compound(Workload("int8_linear", tensors, tuple(rest.items()), Tensor((batch, outputs), out)), unpack)


@pytest.mark.parametrize("form", ["bits", "pow2", "ternary", "signs"])
def test_the_largest_inputs_and_weights_do_not_saturate(form):
    """255 x -64, in pairs 16 bits to the last but 128, over 4,096 inputs."""
    shape = [17, 4096]
    names, bits = {"ternary": (["active", "negative"], 1), "signs": (["negative"], 1)}.get(form, (["packed"], 4))
    stored = {name: np.full((17, 4096 * bits // 8), 255, np.uint8) for name in names}
    unpack = called(f"unpack_{form}", 0, stored, {"shape": shape} if bits == 1 else {"bits": bits, "shape": shape})
    tensors = {"x": np.full((1, 4096), 255, np.uint8), "weight": None,
               "bias": np.zeros(17, np.int32), "scale": np.ones(17, np.float32)}
    one = on_packed("int8_linear", tensors, {"low": -math.inf, "high": math.inf}, unpack)
    algorithm, = algorithms(one.op)
    assert set(one.expected.flat) == {255.0 * 4096 * unpack.expected[0, 0]}
    assert not failures(every_option(algorithm, workload_of(one), inputs_of(one), one.expected, TARGET))


def requantised(unpack: Workload, batch: int = 1) -> Workload:
    return dense_workload(unpack, batch, {"out_zero_point": 3, "low": 0.0, "high": 255.0}, "uint8")


@pytest.mark.parametrize("mcpu, register, product", [("cascadelake", "zmm", "vpdpbusd"), ("skylake-avx512", "zmm", "vpmaddubsw"),
                                                      ("x86-64-v3", "ymm", "vpmaddubsw")])
def test_codes_are_looked_up_and_multiplied_in_full_vectors(mcpu, register, product, tmp_path):
    import tvm

    target, work = target_of(tmp_path, mcpu, ""), requantised(unpack_workload("unpack_bits", 4, (256, 512)))
    algorithm, option = choices(work, target)[0]
    lowering = algorithm.lower(work, target, option)
    function = kernel([(work, lowering, 0)], work.result).with_attr("global_symbol", "main")
    assembly = tvm.compile(tvm.IRModule({"main": function}), target.tvm()).mod.inspect_source("asm")
    assert len(re.findall(rf"vpshufb\s.*{register}", assembly)) >= 8
    assert len(re.findall(rf"{product}\s.*{register}", assembly)) >= 8


@pytest.mark.parametrize("target, op, bits", [("local", "unpack_bits", 5), ("neon", "unpack_bits", 4)])
def test_what_no_kernel_computes_from_packed_weights_is_left_to_unpacked_ones(target, op, bits, tmp_path):
    chosen = load("local") if target == "local" else target_of(tmp_path, "cortex-a72", "aarch64-linux-gnu")
    assert not choices(requantised(unpack_workload(op, bits, (64, 64))), chosen)


def test_a_network_of_all_formats_compiles_exactly_and_says_which_weights_stay_packed(tmp_path):
    tokens = ["intn", "intn-bits6", "pow2", "ternary", "signs"]
    layers = [torch.nn.Conv2d(3, 16, 3, groups=1), torch.nn.Conv2d(16, 16, 3, groups=16), torch.nn.Conv2d(16, 37, 1),
              torch.nn.Flatten(), torch.nn.Linear(37, 1024), torch.nn.Linear(1024, 1024)]
    compressed = iter(tokens)
    network = torch.nn.Sequential(*(layer if isinstance(layer, torch.nn.Flatten)
                                    else parse("compression", next(compressed)).prepare(layer) for layer in layers))
    network.train()
    network(torch.randn(64, 3, 5, 5))
    exported = torch.export.export(freeze(network), (torch.randn(1, 3, 5, 5),))
    library, report, _ = compiled(exported, tmp_path)
    images = np.random.default_rng(1).standard_normal((50, 3, 5, 5), dtype=np.float32)
    checked = verify(exported, library, images, load("local"), report.joined)
    assert (checked.kind, checked.mismatch, checked.largest_error) == ("integer", "", 0.0) and report.fallback == 0
    weights = {op.op: op.weights for op in report.ops if op.op.startswith("int8")}
    assert weights["int8_conv2d"] == "unpacked" and len(report.joined) == sum(w == "packed" for w in weights.values())
