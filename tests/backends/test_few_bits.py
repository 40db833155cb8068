"""Kernels of weights of few bits: unpacked at load, and dense layers straight from packed weights."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.lowering import algorithm_named, choices, kernel
from backends.target import load
from backends.tune import random_inputs, reference, tune
from backends.unpacking import compound
from backends.verify import verify
from backends.workload import Tensor, Workload
from spaces.freeze import freeze
from spaces.gene import parse
from tests.backends.running import TARGET, run, tensor_of
from tests.backends.test_codegen import target_of
from tests.backends.test_compile import compiled
from tests.backends.test_kernels import integer_parameters, integer_result

# Op, and the bits of a code; two planes hold a ternary weight.
FORMATS = [*(("unpack_bits", bits) for bits in range(2, 8)), ("unpack_pow2", 3), ("unpack_pow2", 4), ("unpack_ternary", 1),
           ("unpack_signs", 1)]
SERVED = [(op, bits) for op, bits in FORMATS if bits <= 4]
SIZES = st.one_of(st.integers(1, 70), st.sampled_from([16, 37, 64, 96, 130]))


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
    scale = "float32" if out == "float32" else "int32"
    tensors = (("x", Tensor((batch, inputs), "uint8")), ("weight", unpack.out), ("bias", Tensor((outputs,), "int32")),
               ("scale", Tensor((outputs,), scale)))
    return compound(Workload("int8_linear", tensors, tuple(rest.items()), Tensor((batch, outputs), out)), unpack)


@pytest.mark.parametrize("op, bits", FORMATS)
@given(shape=st.one_of(st.tuples(SIZES), st.tuples(SIZES, SIZES), st.tuples(st.integers(1, 9), st.integers(1, 9),
                                                                              st.integers(1, 3), st.integers(1, 3))))
@settings(max_examples=20, deadline=None)
def test_weights_are_unpacked_exactly(op, bits, shape):
    workload = unpack_workload(op, bits, shape)
    inputs = random_inputs(workload)
    out = run(algorithm_named(op, "sequential"), workload, {}, [torch.from_numpy(value) for value in inputs.values()])
    np.testing.assert_array_equal(out, reference(workload, inputs))


@pytest.mark.parametrize("op, bits", SERVED)
@given(batch=st.integers(1, 3), inputs=st.integers(1, 300), outputs=SIZES, to_float=st.booleans())
@settings(max_examples=12, deadline=None)
def test_dense_layers_from_packed_weights_are_exact(op, bits, batch, inputs, outputs, to_float):
    torch.manual_seed(inputs)
    unpack = unpack_workload(op, bits, (outputs, inputs))
    stored = [torch.from_numpy(value) for value in random_inputs(unpack).values()]
    weight = torch.from_numpy(reference(unpack, random_inputs(unpack)))
    x = torch.randint(0, 256, (batch, inputs), dtype=torch.uint8)
    parameters, rest = integer_parameters(outputs, to_float)
    expected = integer_result(x.long() @ weight.long().t(), parameters, rest, to_float)
    workload = dense_workload(unpack, batch, rest, tensor_of(expected).dtype)
    module = algorithm_named(f"int8_linear_{op}", "shuffled")
    if not module.serves(workload, TARGET):
        pytest.skip("this target has no AVX2")
    for option in module.options(workload, TARGET):
        out = run(module, workload, option, [x, *stored, *parameters])
        np.testing.assert_array_equal(out, expected.numpy())


@pytest.mark.parametrize("op", ["int8_linear_unpack_bits", "int8_linear_unpack_pow2", "int8_linear_unpack_ternary",
                                "int8_linear_unpack_signs"])
def test_the_largest_inputs_and_weights_do_not_saturate(op):
    """255 x -64, in pairs 16 bits to the last but 128, over 4,096 inputs."""
    bits = {"int8_linear_unpack_bits": 4, "int8_linear_unpack_pow2": 4}.get(op, 1)
    unpack = unpack_workload(op.removeprefix("int8_linear_"), bits, (17, 4096))
    stored = [torch.full(tensor.shape, 255, dtype=torch.uint8) for _, tensor in unpack.tensors]
    weight = torch.from_numpy(reference(unpack, {name: value.numpy() for (name, _), value in zip(unpack.tensors, stored)}))
    parameters = [torch.zeros(17, dtype=torch.int32), torch.ones(17)]
    workload = dense_workload(unpack, 1, {"shift": 0, "out_zero_point": 0, "low": -math.inf, "high": math.inf}, "float32")
    x, module = torch.full((1, 4096), 255, dtype=torch.uint8), algorithm_named(op, "shuffled")
    if not module.serves(workload, TARGET):
        pytest.skip("this target has no AVX2")
    out = run(module, workload, module.options(workload, TARGET)[0], [x, *stored, *parameters])
    np.testing.assert_array_equal(out, 255.0 * weight.sum(1).numpy()[None])


def requantised(unpack: Workload, batch: int = 1) -> Workload:
    return dense_workload(unpack, batch, {"shift": 40, "out_zero_point": 3, "low": 0.0, "high": 255.0}, "uint8")


@pytest.mark.parametrize("op, bits", SERVED)
@pytest.mark.parametrize("shape, batch", [((37, 75), 3), ((3, 40), 1), ((130, 96), 1)])
def test_avx2_code_computes_the_same(op, bits, shape, batch):
    if "avx2" not in load("local").features:
        pytest.skip("this machine has no AVX2")
    trials = tune(requantised(unpack_workload(op, bits, shape), batch), load("x86-64-v3"))
    assert trials and not any(trial.refused for trial in trials)


@pytest.mark.parametrize("op, bits", [("unpack_bits", 4), ("unpack_ternary", 1)])
def test_two_threads_compute_what_one_does(op, bits):
    trials = tune(requantised(unpack_workload(op, bits, (1030, 4096))), replace(load("local"), threads=2))
    assert trials and not any(trial.refused for trial in trials)


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
    checked = verify(exported, library, images, load("local"), report.packed)
    assert (checked.kind, checked.mismatch, checked.largest_error) == ("integer", "", 0.0) and report.fallback == 0
    weights = {op.op: op.weights for op in report.ops if op.op.startswith("int8")}
    assert weights["int8_conv2d"] == "unpacked" and len(report.packed) == sum(w == "packed" for w in weights.values())
