"""Seconds to compile MobileNetV2 at 224x224: from an empty kernel store, again from the full one, and with one block in
the middle changed. The changed block has another expansion, so that its three convolutions are new to the store."""

import sys
import tempfile
from pathlib import Path
from statistics import median

from rich.table import Table

from backends.worker import Worker
from search.bench import console

NETWORK, SIZE = "mobilenet_v2", 224
# The eighth of the seventeen blocks, 64 channels at 14x14, behind the stem's three modules; it expands 6 times.
BLOCK, CHANNELS, EXPANSIONS = 3 + 7, 64, (2, 3, 4, 5, 7)
REPEATS, LIMIT_S = 5, 600.0


def run(target) -> dict:
    """Seconds of each compilation in one process, with a store of its own: all of it, and measuring kernels."""
    from evaluators.score import environment

    worker = Worker(environment(target.threads))
    try:
        result = worker.call(compilations, target, timeout_s=LIMIT_S)
    finally:
        worker.close()
    print(result, file=sys.stderr)
    return {"network": f"{NETWORK}@{SIZE}", "target": target.name, "threads": target.threads, **result}


def compilations(target) -> dict:
    """In the worker: lists of seconds by what the store knew."""
    import spaces.ops
    from backends.compile import compile_program

    spaces.ops.register_all()
    known, changed = _program(None), [_program(expand) for expand in EXPANSIONS]
    with tempfile.TemporaryDirectory(prefix="netwright-") as folder:
        def seconds(program) -> dict:
            report = compile_program(program, target, Path(folder) / "model.so", Path(folder) / "kernels.db")
            return {"seconds": report.seconds, "tune_seconds": report.tune_seconds, "kernels_built": report.kernels_built}
        return {"empty store": [seconds(known)], "full store": [seconds(known) for _ in range(REPEATS)],
                "one block changed": [seconds(program) for program in changed]}


def _program(expand: int | None):
    """The exported network, its middle block expanding as many times."""
    import torch

    from evaluators.model import from_module
    from spaces import zoo
    from spaces.blocks.mbconv import MBConv

    network, shape = zoo.network(NETWORK, SIZE, 1000), (1, 3, SIZE, SIZE)
    if expand is not None:
        network[BLOCK] = MBConv(expand=expand).build(CHANNELS, CHANNELS, 1)
    return from_module(zoo.settled(network, torch.randn(shape)), shape).program


def show(result: dict) -> None:
    """A table of medians and ranges."""
    table = Table(title=f"compiling {result['network']}, target {result['target']}, threads {result['threads']}")
    for column in ("kernel store", "compiled", "seconds, median", "range", "measuring kernels, median", "functions built"):
        table.add_column(column)
    for name in ("empty store", "full store", "one block changed"):
        times = [each["seconds"] for each in result[name]]
        tuning, built = (median(each[key] for each in result[name]) for key in ("tune_seconds", "kernels_built"))
        table.add_row(name, str(len(times)), f"{median(times):.2f}", f"{min(times):.2f} to {max(times):.2f}",
                      f"{tuning:.2f}", f"{built:g}")
    console().print(table)
