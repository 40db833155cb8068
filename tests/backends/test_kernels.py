"""Every kernel file against NumPy, on random shapes, values, geometry and options: the folder of kernels is walked, the cases of an op
are found by its name (`tests/cases`).

A case is drawn with the layouts, steps and place in a concatenation that its number says: every fourth image lies plane by plane, as it enters a
network; every third result goes through a step before it is stored; every fifth is some channels of a larger tensor.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import backends.target
import spaces.ops
from backends.lowering import algorithms, is_step, name_of, ops, takes_steps
from backends.target import load
from backends.workload import CHANNELS_LAST, PLAIN, Step
from tests.backends.running import TARGET, Run, every_algorithm, every_option, failures, frozen, inputs_of, tensor_of, workload_of
from tests.cases import Case, called, case, definition
from tests.cases._draw import images_or_rows

COUNTS = [20, pytest.param(200, marks=pytest.mark.slow)]
TARGETS = ["local", *(["x86-64-v3"] if "avx2" in TARGET.features else [])]
COUNTS_BY_TARGET = dict(zip(TARGETS, (20, 8)))
RARE = 8  # cases drawn for one that a kernel serves, at most
FROM, BESIDE = 3, 7  # the first channel in a concatenation, and the channels of others
GAIN = 5  # no step multiplies a difference by more
STEPS = [op for op in ops() if is_step(op)]


def run_of(case: Case, image: str = CHANNELS_LAST, out: str = CHANNELS_LAST) -> Run:
    """The case, not yet by any kernel."""
    allowed = case.tolerance and case.tolerance * float(np.abs(case.expected).max())
    return Run(None, {}, workload_of(case, image, out), inputs_of(case), case.expected, allowed)


def varied(case: Case) -> Run:
    """The case with the layout, step and place of its number."""
    if case.op.startswith("unpack_"):
        return run_of(case)
    image = PLAIN if case.number % 4 == 3 else CHANNELS_LAST
    run = run_of(case, image, PLAIN if case.op == "clone" and case.number % 2 else CHANNELS_LAST)
    if case.number % 3 == 2 and takes_steps(case.op) and run.workload.out == tensor_of(case.expected, CHANNELS_LAST):
        run = followed(run, step_for(case))
    return replace(run, first=FROM, channels=run.expected.shape[1] + BESIDE) if case.number % 5 == 4 else run


def step_for(case: Case) -> Case:
    """A call, on tensors of the result's shape and type, of the step whose turn it is."""
    rng = np.random.default_rng(case.number)
    calls = [Case(op, case.number, *definition(op).inputs(rng, case.expected.shape), case.expected) for op in STEPS]
    fitting = [call for call in calls if next(iter(call.tensors.values())).dtype == case.expected.dtype]
    return fitting[case.number // 3 % len(fitting)]


def followed(run: Run, step: Case) -> Run:
    """The run with the step on its result, which takes the place of one of the step's tensors."""
    names = list(step.tensors)
    place = names[step.number % len(names)]
    step = called(step.op, step.number, step.tensors | {place: run.expected}, step.arguments)
    operands = {name: None if name == place else tensor_of(value, CHANNELS_LAST) for name, value in step.tensors.items()}
    then = Step(step.op, tuple(operands.values()), frozen(step.arguments), tensor_of(step.expected, CHANNELS_LAST))
    others = tuple(value for name, value in step.tensors.items() if name != place)
    return replace(run, workload=replace(run.workload, then=(then,)), inputs=run.inputs + others, expected=step.expected,
                   allowed=allowed_after(run, step))


def allowed_after(run: Run, step: Case) -> float:
    """By how much a result may differ behind a step: one where a float that may differ is rounded."""
    if step.op == "quantize":
        return float(run.allowed > 0)
    return max(GAIN * run.allowed, step.tolerance * float(np.abs(step.expected).max()))


def served(op: str, count: int, target) -> list[list[Run]]:
    """The first so many cases of an op that some kernel file serves, by each that does."""
    found, number = [], 0
    while len(found) < count and number < RARE * count:
        found += [runs for runs in [every_algorithm(varied(case(op, number)), number, target)] if runs]
        number += 1
    return found


@pytest.mark.parametrize("target, count", [*COUNTS_BY_TARGET.items(), *(pytest.param(t, 200, marks=pytest.mark.slow) for t in TARGETS)])
@pytest.mark.parametrize("op", ops())
def test_every_kernel_computes_what_numpy_does(op, target, count):
    runs = served(op, count, load(target))
    assert len(runs) == count, f"of {RARE * count} cases {len(runs)} reach a kernel"
    assert not failures([run for each in runs for run in each], load(target))


@pytest.mark.parametrize("op", ops())
def test_two_threads_compute_what_numpy_does(op, monkeypatch):
    """Work of any size is shared, so that a thread may get little or nothing."""
    monkeypatch.setattr(backends.target, "PARALLEL_WORK", 0)
    target = replace(TARGET, threads=2)
    assert not failures([run for each in served(op, 4, target) for run in each], target)


@pytest.mark.parametrize("algorithm", algorithms("int8_linear"), ids=name_of)
@pytest.mark.parametrize("target", TARGETS)
def test_int8_dense_sums_extremes_without_saturation(algorithm, target):
    """[46]: 255 x +-127, K = 4,096: where pmaddubsw would saturate its 16 bits."""
    weight = np.array([[127], [-127]], np.int8).repeat(4096, 1)
    tensors = {"x": np.full((1, 4096), 255, np.uint8), "weight": weight, "bias": np.zeros(2, np.int32), "scale": np.ones(2, np.float32)}
    one = called("int8_linear", 0, tensors, {"shift": 0, "out_zero_point": 0, "low": -math.inf, "high": math.inf})
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
    assert len(runs) == count and not failures(runs, TARGET)


@pytest.mark.parametrize("op", [op for op in ops() if hasattr(torch.ops.aten, op) and op not in spaces.ops.names()])
@pytest.mark.parametrize("count", COUNTS)
def test_torch_defines_what_numpy_computes(op, count):
    """Of ops that are torch's own the kernels' reference is torch."""
    for one in (case(op, number) for number in range(count)):
        out = getattr(torch.ops.aten, op)(*map(torch.from_numpy, one.tensors.values()), **one.arguments).numpy()
        np.testing.assert_allclose(out, one.expected, rtol=one.tolerance, atol=one.tolerance * np.abs(one.expected).max(), err_msg=str(one))


@pytest.mark.parametrize("op", ops())
def test_every_kernel_file_says_what_it_is_and_answers_the_interface(op):
    for module in algorithms(op):
        assert module.__doc__ and callable(module.serves) and callable(module.options) and callable(module.lower)
        assert isinstance(module.PRIORITY, int)
