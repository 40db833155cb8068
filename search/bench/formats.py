"""Every deployed format on layers of several shapes: bytes and time against the layer in float32.

A layer with random weights is compressed in one shot by each setting of each method, frozen and compiled; the kernels that
the compiler took are timed in turns with our float32 kernel that sums all products ("direct") and with the fastest one.
The quantise step in front of a lone layer is not counted, since integer layers hand integers to each other; packing signs
is. An activation in front of the layer makes its input lie as it does inside a network.
"""

import sys
import tempfile
from pathlib import Path
from statistics import median

from rich.table import Table

from backends.worker import Worker, WorkerError
from search.bench import console

LAYERS = {"3x3 256-256 14x14": (256, 256, 3, 14), "3x3 64-64 56x56": (64, 64, 3, 56), "1x1 256-256 14x14": (256, 256, 1, 14),
          "1x1 96-24 56x56": (96, 24, 1, 56), "dense 4096-4096": (4096, 4096, 0, 0), "dense 1280-1000": (1280, 1000, 0, 0)}
ROUNDS, LIMIT_S, IMAGES = 9, 900.0, 32
BOUNDARY = ("relu", "quantize", "dequantize", "clone")


def run(target) -> dict:
    """Per layer and setting: `bytes_ratio` and `times_direct`, `times_fastest` (how many times smaller and faster than float32),
    the kernels, the `fastest` of float32, and whether weights are computed packed or were unpacked."""
    from evaluators.score import environment

    layers = {}
    for name, shape in LAYERS.items():
        worker, layers[name] = Worker(environment(target.threads)), {}
        try:
            for token in settings(shape):
                layers[name][token] = _tried(worker, token, shape, target)
                print(name, token, layers[name][token], file=sys.stderr)
        finally:
            worker.close()
    return {"target": target.name, "threads": target.threads, "layers": layers}


def settings(shape: tuple[int, ...]) -> list[str]:
    """Every setting of every method that fits a layer of this shape by itself."""
    from spaces.block import CONV, DENSE, POINTWISE
    from spaces.gene import load, names
    from spaces.method import STORE, STRUCTURE

    kind = {0: DENSE, 1: POINTWISE}.get(shape[2], CONV)
    methods = {name: load("compression", name) for name in names("compression")}
    fitting = {name: method for name, method in methods.items()
               if kind in method.APPLIES and method.PHASE not in (STRUCTURE, STORE)}
    return [token for name, method in fitting.items() for token in method.SETTINGS or (name,)]


def _tried(worker: Worker, token: str, shape: tuple[int, ...], target) -> dict:
    try:
        return worker.call(measured, token, shape, target, timeout_s=LIMIT_S)
    except WorkerError as error:  # a setting that a shape cannot have
        return {"refused": str(error)}


def measured(token: str, shape: tuple[int, ...], target) -> dict:
    """In the worker: one setting on one layer."""
    from backends.store import Store, default_path
    from backends.tune import in_turns

    store = Store(default_path(), target)
    dense, stored_dense, _ = _kernels("none", shape, target)
    ours, stored, weights = _kernels(token, shape, target)
    trials = [trial for trial in store.trials(dense[0]) if trial.samples_us]
    direct = next(trial for trial in trials if trial.algorithm != "winograd")
    chosen = [(dense[0], direct), (dense[0], trials[0]), *((workload, store.best(workload)) for workload in ours)]
    direct_us, fastest_us, *parts = map(median, in_turns(chosen, target, ROUNDS))
    return {"bytes_ratio": stored_dense / stored, "us": sum(parts), "times_direct": direct_us / sum(parts),
            "times_fastest": fastest_us / sum(parts), "weights": weights,
            "kernels": [_named(*each) for each in chosen[2:]], "fastest": _named(*chosen[1])}


def _named(workload, trial) -> str:
    return f"{workload.op}/{trial.algorithm}"


def _kernels(token: str, shape: tuple[int, ...], target):
    """The workloads at each inference of the compiled layer, its stored bytes, and whether it computes from packed weights."""
    import spaces.ops
    from backends.compile import compile_program
    from backends.fusion import groups_of
    from backends.graph import read
    from backends.joining import with_joined
    from backends.lowering import served_on
    from backends.tune import bare
    from backends.unpacking import UNPACK

    spaces.ops.register_all()
    program, stored = _compressed(token, shape)
    with tempfile.TemporaryDirectory(prefix="netwright-") as folder:
        report = compile_program(program, target, Path(folder) / "layer.so")
    graph = with_joined(read(program, served_on(target)), report.joined)
    parts = [part.workload for group in groups_of(graph) for part in group.parts]
    used = [bare(part) for part in parts if part.op not in BOUNDARY and not part.op.startswith(UNPACK)]
    return used, stored, next((op.weights for op in report.ops if op.weights), "")


def _compressed(token: str, shape: tuple[int, ...]):
    """The exported program of a layer after one-shot compression, and its stored bytes."""
    import torch

    from spaces.freeze import freeze

    inputs, outputs, kernel, side = shape
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2) if kernel else torch.nn.Linear(inputs, outputs)
    x = torch.randn(IMAGES, inputs, side, side) if kernel else torch.randn(IMAGES, inputs)
    prepared = torch.nn.Sequential(torch.nn.ReLU(), layer if token == "none" else _prepared(token, layer, x))
    with torch.no_grad():
        prepared.train()(x[:1])
    frozen = freeze(prepared)
    return torch.export.export(frozen, (x[:1],)), sum(tensor.nbytes for tensor in frozen.state_dict().values())


def _prepared(token: str, layer, images):
    """The layer compressed where random images are what a method sees of it."""
    from torch import nn

    from spaces.gene import parse
    from spaces.site import Calibration, Site
    from spaces.trace import trace

    network = trace(nn.Sequential(nn.ReLU(), layer, nn.Flatten()))
    return parse("compression", token).prepare_at(Site(layer, "1", network, Calibration.unlabelled(images)))


def show(result: dict) -> None:
    """A table a layer, and each method's break-even."""
    out = console()
    for name, rows in result["layers"].items():
        table = Table(title=f"{name}: times smaller and faster than float32, target {result['target']}, one input")
        for column in ("setting", "bytes", "time, direct", "time, fastest", "weights", "kernels"):
            table.add_column(column)
        for token, row in rows.items():
            table.add_row(token, *_figures(row))
        out.print(table)
        out.print("from here on faster than the fastest:", ", ".join(_break_even(rows)) or "none")


def _figures(row: dict) -> tuple[str, ...]:
    if "refused" in row:
        return "", "", "", "refused", row["refused"]
    return (f"{row['bytes_ratio']:.1f}", f"{row['times_direct']:.2f}", f"{row['times_fastest']:.2f}", row["weights"],
            " ".join(row["kernels"]))


def _break_even(rows: dict) -> list[str]:
    """Each method's first setting that is faster than the fastest float32 kernel. One that ends in that kernel itself, its
    weights unpacked, is as fast, whatever the figures say."""
    first: dict[str, str] = {}
    for token, row in rows.items():
        if row.get("times_fastest", 0) > 1 and row["kernels"] != [row["fastest"]]:
            first.setdefault(token.partition("-")[0], token)
    return list(first.values())
