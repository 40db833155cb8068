"""Measuring options: wrong ones are refused, right ones are timed and remembered."""

import math
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import backends.tune as tuning
import spaces.ops
from backends.lowering import algorithm_named, algorithms, choices
from backends.roofline import Roofline, flops, measure_roofline, moved_bytes
from backends.store import Store
from backends.target import load
from backends.workload import CompileError, Lowering, Step, Tensor, Workload

spaces.ops.register_all()
TARGET = load("local")


def convolution(inputs=8, side=6, outputs=16, kernel=3, low=-math.inf, then=()) -> Workload:
    """A padded convolution."""
    tensors = (("x", Tensor((1, inputs, side, side), "float32", "channels_last")),
               ("weight", Tensor((outputs, inputs, kernel, kernel), "float32")), ("bias", Tensor((outputs,), "float32")))
    arguments = (("stride", (1, 1)), ("padding", (kernel // 2,) * 2), ("dilation", (1, 1)), ("groups", 1),
                 ("low", low), ("high", math.inf))
    return Workload("conv2d", tensors, arguments, Tensor((1, outputs, side, side), "float32", "channels_last"), then)


def wrong(right: ModuleType):
    """An algorithm that forgets the bias of the last channel's neighbour: its sums are of another image."""
    def lower(workload, target, option):
        lowering = right.lower(workload, target, option)
        return Lowering(lambda buffers, sink: lowering.body({**buffers, "bias": buffers["x"]}, sink), lowering.packed)
    return SimpleNamespace(__name__="backends.kernels.conv2d.wrong", PRIORITY=-1, serves=right.serves,
                           options=right.options, lower=lower)


def test_every_option_is_timed_and_all_that_compute_the_same_are_kept():
    workload = convolution(inputs=32, side=12, outputs=32)
    trials = tuning.tune(workload, TARGET)
    assert len(trials) == len(choices(workload, TARGET)) > 3
    assert {trial.algorithm for trial in trials} == {"direct", "winograd"}
    assert all(trial.samples_us and min(trial.samples_us) > 0 and not trial.refused for trial in trials)


def test_a_kernel_that_miscomputes_is_refused_and_never_timed(tmp_path, monkeypatch):
    right = algorithm_named("conv2d", "direct")
    monkeypatch.setattr("backends.lowering.algorithms", lambda op: (wrong(right), right))
    timed = []
    whole = tuning._timed
    monkeypatch.setattr(tuning, "_timed", lambda options: timed.extend(o.algorithm for o in options) or whole(options))
    store = Store(tmp_path / "kernels.db", TARGET)
    assert tuning.best(convolution(), TARGET, store).algorithm == "direct"
    refused = [trial for trial in store.trials(tuning.bare(convolution())) if trial.refused]
    assert {trial.algorithm for trial in refused} == {"wrong"} and all(not trial.samples_us for trial in refused)
    assert set(timed) == {"direct"}


def integer(inputs: int, side: int, kernel: int) -> Workload:
    """A padded convolution of bytes to bytes."""
    tensors = (("x", Tensor((1, inputs, side, side), "uint8", "channels_last")),
               ("weight", Tensor((16, inputs, kernel, kernel), "int8")), ("bias", Tensor((16,), "int32")), ("scale", Tensor((16,), "float32")))
    geometry = (("stride", (1, 1)), ("padding", (kernel // 2,) * 2), ("dilation", (1, 1)), ("groups", 1))
    rest = (("zero_point", 3), ("out_zero_point", 0), ("low", 0.0), ("high", 255.0))
    return Workload("int8_conv2d", tensors, geometry + rest, Tensor((1, 16, side, side), "uint8", "channels_last"))


def test_a_kernel_that_pads_with_another_number_than_the_zero_point_is_refused(monkeypatch):
    right, = [a for a in algorithms("int8_conv2d") if a.serves(integer(8, 6, 3), TARGET)]

    def lower(workload, target, option):
        arguments = {**dict(workload.arguments), "zero_point": 0}
        return right.lower(replace(workload, arguments=tuple(arguments.items())), target, option)
    unpadded = SimpleNamespace(__name__="backends.kernels.int8_conv2d.unpadded", PRIORITY=0, serves=right.serves,
                               options=right.options, lower=lower)
    monkeypatch.setattr("backends.lowering.algorithms", lambda op: (unpadded,))
    trials = tuning.tune(tuning.bare(integer(8, 6, 3)), TARGET)
    assert trials and all(trial.refused for trial in trials)


@pytest.mark.parametrize("inputs, kernel", [(1, 1), (3, 3), (96, 1), (64, 3), (2048, 1), (200, 7)])
def test_integer_kernels_are_checked_on_results_that_few_of_saturate(inputs, kernel):
    workload = tuning.bare(integer(inputs, 9, kernel))
    results = tuning.reference(workload, tuning.random_inputs(workload))
    assert np.isin(results, (0, 255)).mean() < 0.4


def test_where_every_kernel_miscomputes_none_is_taken(tmp_path, monkeypatch):
    right = algorithm_named("conv2d", "direct")
    monkeypatch.setattr("backends.lowering.algorithms", lambda op: (wrong(right),))
    with pytest.raises(CompileError, match="conv2d"):
        tuning.best(convolution(), TARGET, Store(tmp_path / "kernels.db", TARGET))


def test_what_is_known_is_not_measured_again_unless_asked(tmp_path, monkeypatch):
    store, calls = Store(tmp_path / "kernels.db", TARGET), []
    whole = tuning.tune
    monkeypatch.setattr(tuning, "tune", lambda *given: calls.append(1) or whole(*given))
    first = tuning.best(convolution(), TARGET, store)
    rectified = convolution(low=0.0, then=(Step("hardswish", (None,), (), convolution().out),))
    assert tuning.best(rectified, TARGET, store) == first and len(calls) == 1
    tuning.best(convolution(), TARGET, store, retune=True)
    assert len(calls) == 2


def test_the_roofline_counts_what_the_op_is_by_definition():
    workload = convolution(inputs=8, side=6, outputs=16, kernel=3)
    assert flops(workload) == 2 * 36 * 16 * 8 * 9
    assert moved_bytes(workload) == 4 * (8 * 36 + 16 * 8 * 9 + 16 + 16 * 36)
    line = Roofline(100.0, ((1_000, 200.0), (10_000, 50.0)))
    assert line.compute_us(workload) == pytest.approx(flops(workload) / 100e3)
    assert (line.bandwidth(10), line.bandwidth(1_000), line.bandwidth(1_001), line.bandwidth(10**9)) == (200, 200, 50, 50)
    assert line.bound_us(workload) == max(line.compute_us(workload), line.memory_us(workload))
    assert Roofline.parse(line.text()) == line


def test_no_kernel_beats_the_measured_peak_by_more_than_noise():
    line = measure_roofline(TARGET)
    workload = convolution(inputs=96, side=16, outputs=48, kernel=1)
    direct = [t for t in tuning.tune(workload, TARGET) if t.algorithm == "direct"]
    assert all(line.compute_us(workload) <= 1.5 * trial.us for trial in direct)


def test_random_integers_stay_within_what_the_op_takes():
    unpack = Workload("unpack_bitmap", (("bitmap", Tensor((4,), "uint8")), ("values", Tensor((11,), "int8"))),
                      (("shape", (30,)),), Tensor((30,), "int8"))
    inputs = tuning.random_inputs(unpack)
    assert np.unpackbits(inputs["bitmap"], bitorder="little")[:30].sum() == 11
    assert tuning.reference(unpack, inputs).shape == (30,)


def test_every_algorithm_of_every_op_has_at_least_one_option_where_it_serves():
    assert all(algorithm.options(convolution(), TARGET) for algorithm in algorithms("conv2d")
               if algorithm.serves(convolution(), TARGET))
