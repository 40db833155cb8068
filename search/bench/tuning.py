"""Seconds to a tuned kernel: our options against TVM's MetaSchedule (Shao et al., 2022) on ten convolutions.

MetaSchedule gets `TRIALS` trials a convolution, on as many processes as there are cores; our options are compiled and
measured one after another. Both kernels are then timed in the same process, in turns.
"""

import os
import sys
import tempfile
import time
from statistics import median

from rich.table import Table

from backends.worker import Worker
from search.bench import console

TRIALS, LIMIT_S, BUILD_LIMIT_S = 64, 3600.0, 120.0
# inputs, side, outputs, kernel, stride, groups: from MobileNetV2, SqueezeNet and ResNet-20
CONVOLUTIONS = ((96, 16, 24, 1, 1, 1), (64, 56, 128, 1, 1, 1), (512, 14, 512, 1, 1, 1), (160, 7, 960, 1, 1, 1),
                (16, 32, 16, 3, 1, 1), (64, 8, 64, 3, 1, 1), (16, 55, 64, 3, 1, 1), (3, 224, 32, 3, 2, 1),
                (144, 56, 144, 3, 1, 144), (512, 14, 512, 3, 1, 512))


def run(target) -> dict:
    """Per convolution seconds and microseconds of both, and the ratios' medians."""
    from evaluators.score import environment

    rows = []
    for shape in CONVOLUTIONS:
        worker = Worker(environment(target.threads))
        try:
            rows.append(worker.call(compared, shape, target, timeout_s=LIMIT_S))
        finally:
            worker.close()
        print(rows[-1], file=sys.stderr)
    return {"target": target.name, "trials": TRIALS, "convolutions": rows,
            "median_seconds_ratio": median(row["seconds_ratio"] for row in rows),
            "median_us_ratio": median(row["us_ratio"] for row in rows)}


def compared(shape: tuple[int, ...], target) -> dict:
    """In the worker: one convolution, both ways."""
    import spaces.ops
    from backends.tune import tune

    spaces.ops.register_all()
    workload = _workload(shape)
    tune(_workload((4, 4, 4, 1, 1, 1)), target)  # what is imported at first use is not counted
    begin = time.perf_counter()
    ours = min(tune(workload, target), key=lambda trial: trial.us)
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    theirs_us = _metaschedule(shape, target)
    theirs_seconds = time.perf_counter() - begin
    return {"convolution": str(workload), "kernel": ours.algorithm, "us": ours.us, "seconds": seconds,
            "metaschedule_us": theirs_us, "metaschedule_seconds": theirs_seconds,
            "seconds_ratio": theirs_seconds / seconds, "us_ratio": theirs_us / ours.us}


def _workload(shape):
    from backends.workload import CHANNELS_LAST, Tensor, Workload

    inputs, side, outputs, kernel, stride, groups = shape
    out = (side + kernel // 2 * 2 - kernel) // stride + 1
    tensors = (("x", Tensor((1, inputs, side, side), "float32", CHANNELS_LAST)),
               ("weight", Tensor((outputs, inputs // groups, kernel, kernel), "float32")), ("bias", Tensor((outputs,), "float32")))
    arguments = (("stride", (stride,) * 2), ("padding", (kernel // 2,) * 2), ("dilation", (1, 1)), ("groups", groups),
                 ("low", float("-inf")), ("high", float("inf")))
    return Workload("conv2d", tensors, arguments, Tensor((1, outputs, out, out), "float32", CHANNELS_LAST))


def _metaschedule(shape, target) -> float:
    """Microseconds of the best of its trials, timed as ours are."""
    import numpy as np
    import tvm
    from tvm import te
    from tvm.s_tir import meta_schedule

    placeholders, cores = _te(shape), len(os.sched_getaffinity(0))
    function = te.create_prim_func(placeholders)
    builder = meta_schedule.builder.LocalBuilder(max_workers=cores, timeout_sec=BUILD_LIMIT_S)
    with tempfile.TemporaryDirectory() as folder:
        database = meta_schedule.tune_tir(function, target.tvm(), folder, TRIALS, num_trials_per_iter=TRIALS // 2,
                                          builder=builder, num_tuning_cores=cores, seed=0)
        schedule = meta_schedule.tir_integration.compile_tir(database, function, target.tvm())
    if schedule is None:
        return float("inf")
    module = tvm.compile(schedule.mod, target.tvm())
    arrays = [tvm.runtime.tensor(np.random.rand(*map(int, tensor.shape)).astype("float32")) for tensor in placeholders]
    timer = module.mod.time_evaluator("main", tvm.cpu(), number=20, repeat=5)
    return 1e6 * median(timer(*arrays).results)


def _te(shape):
    """The convolution with its bias as TVM's own operator library writes it, channels first."""
    from tvm import te, topi

    inputs, side, outputs, kernel, stride, groups = shape
    x = te.placeholder((1, inputs, side, side), name="x")
    weight = te.placeholder((outputs, inputs // groups, kernel, kernel), name="weight")
    bias = te.placeholder((outputs,), name="bias")
    convolution = topi.nn.depthwise_conv2d_nchw if groups > 1 else topi.nn.conv2d_nchw
    out = convolution(x, weight, stride, kernel // 2, 1)
    biased = te.compute(out.shape, lambda n, c, y, z: out[n, c, y, z] + bias[c], name="biased")
    return [x, weight, bias, biased]


def show(result: dict) -> None:
    """A table of both tuners."""
    table = Table(title=f"{result['trials']} MetaSchedule trials a convolution")
    for column in ("convolution", "ours, s", "ours, us", "MetaSchedule, s", "MetaSchedule, us", "seconds ratio", "time ratio"):
        table.add_column(column)
    for row in result["convolutions"]:
        table.add_row(row["convolution"], f"{row['seconds']:.2f}", f"{row['us']:.1f}", f"{row['metaschedule_seconds']:.0f}",
                      f"{row['metaschedule_us']:.1f}", f"{row['seconds_ratio']:.0f}", f"{row['us_ratio']:.2f}")
    out = console()
    out.print(table)
    out.print(f"medians: {result['median_seconds_ratio']:.0f} times our tuning time, kernels {result['median_us_ratio']:.2f}"
              " times as slow")
