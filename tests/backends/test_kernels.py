"""Every kernel file against NumPy, on random shapes, values, geometry and options: the folder of kernels is walked, the
cases of an op are found by its name (`tests/cases`)."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import backends.target
import spaces.ops
from backends.lowering import algorithms, name_of, ops
from backends.target import load, names
from tests.backends import emulated
from tests.backends.running import TARGET, failures
from tests.backends.runs import STEPS, every_algorithm, every_option, followed, inputs_of, run_of, served, varied, workload_of
from tests.backends.test_codegen import target_of
from tests.cases import called, case, definition
from tests.cases._draw import images_or_rows

COUNTS = [20, pytest.param(200, marks=pytest.mark.slow)]
TARGETS = ["local", *(["x86-64-v3"] if "avx2" in TARGET.features else [])]
BOARDS = [name for name in names() if load(name).triple]
COUNTS_ON = [*zip(TARGETS, (20, 8)), *(pytest.param(target, 200, marks=pytest.mark.slow) for target in (*TARGETS, *BOARDS))]
# Layers that are computed from packed weights by byte shuffles, on x86 alone; elsewhere their weights are unpacked at load.
ON_X86 = {f"int8_linear_unpack_{name}" for name in ("bits", "pow2", "signs", "ternary")} | {"linear_unpack_codebook"}


@pytest.mark.parametrize("target, count", COUNTS_ON)
@pytest.mark.parametrize("op", ops())
def test_every_kernel_computes_what_numpy_does(op, target, count):
    if lacking := emulated.missing(load(target)):
        pytest.skip(lacking)
    runs = served(op, count, load(target))
    assert len(runs) == (0 if target in BOARDS and op in ON_X86 else count)
    assert not failures([run for each in runs for run in each], load(target))


@pytest.mark.parametrize("op", ops())
def test_every_kernel_file_is_reached_by_the_cases_on_some_processor(op, tmp_path):
    targets = [*map(load, names()), target_of(tmp_path, "znver4", ""), target_of(tmp_path, "cortex-a72", "aarch64-linux-gnu"),
               replace(TARGET, features=frozenset())]
    missing, number = set(map(name_of, algorithms(op))), 0
    while missing and number < 200:
        run = varied(case(op, number))
        missing -= {name_of(a) for a in algorithms(op) for target in targets if a.serves(run.workload, target)}
        number += 1
    assert not missing


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("op", ops())
def test_threads_compute_what_numpy_does(op, threads, monkeypatch):
    """Work of any size is shared, so that a thread may get little or nothing, and parts may overlap."""
    monkeypatch.setattr(backends.target, "PARALLEL_WORK", 0)
    target = replace(TARGET, threads=threads)
    assert not failures([run for each in served(op, 4, target) for run in each], target)


@pytest.mark.parametrize("algorithm", algorithms("int8_linear"), ids=name_of)
@pytest.mark.parametrize("target", TARGETS)
def test_int8_dense_sums_extremes_without_saturation(algorithm, target):
    """[46]: 255 x +-127, K = 4,096: where pmaddubsw would saturate its 16 bits."""
    weight = np.array([[127], [-127]], np.int8).repeat(4096, 1)
    tensors = {"x": np.full((1, 4096), 255, np.uint8), "weight": weight,
               "bias": np.zeros(2, np.int32), "scale": np.ones(2, np.float32)}
    one = called("int8_linear", 0, tensors, {"low": -math.inf, "high": math.inf})
    workload, target = workload_of(one), load(target)
    assert one.expected.tolist() == [[255 * 127 * 4096.0, -255 * 127 * 4096.0]]
    if algorithm.serves(workload, target):
        assert not failures(every_option(algorithm, workload, inputs_of(one), one.expected, target), target)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("op", STEPS)
def test_every_step_computes_what_numpy_does(op, count):
    """Behind a copy, which changes nothing."""
    runs = []
    for number in range(count):
        rng = np.random.default_rng(number)
        step = called(op, number, *definition(op).inputs(rng, images_or_rows(rng)))
        copied = list(step.tensors.values())[number % len(step.tensors)]
        runs += every_algorithm(followed(run_of(called("clone", number, {"self": copied}, {})), step), number, TARGET)
    assert len(runs) == count and not failures(runs)


@pytest.mark.parametrize("op", [op for op in ops() if hasattr(torch.ops.aten, op) and op not in spaces.ops.names()])
@pytest.mark.parametrize("count", COUNTS)
def test_torch_defines_what_numpy_computes(op, count):
    """Of ops that are torch's own the kernels' reference is torch."""
    for one in (case(op, number) for number in range(count)):
        out = getattr(torch.ops.aten, op)(*map(torch.from_numpy, one.tensors.values()), **one.arguments).numpy()
        np.testing.assert_allclose(out, one.expected, rtol=0, atol=one.allowed, err_msg=str(one))


@pytest.mark.parametrize("op", ops())
def test_every_kernel_file_says_what_it_is_and_answers_the_interface(op):
    for module in algorithms(op):
        assert module.__doc__ and callable(module.serves) and callable(module.options) and callable(module.lower)
        assert isinstance(module.PRIORITY, int)
