"""What threads are worth: the zoo at 224x224 compiled for one thread and for the target's threads (two where it has one),
timed in turns in one process."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from backends.worker import Worker
from search.bench.nets import LARGE, LIMIT_S


def run(target) -> dict:
    """Per network the times of both, in milliseconds, and their ratio."""
    from evaluators.score import environment

    threads = max(2, target.threads)
    networks = {}
    for name in LARGE:
        worker = Worker(environment(threads))
        try:
            networks[name] = worker.call(in_both, name, target, threads, timeout_s=LIMIT_S)
        finally:
            worker.close()
        print(f"{name}: {networks[name]['speedup']:.2f} times as fast on {threads} threads", file=sys.stderr)
    return {"target": target.name, "threads": threads, "networks": networks}


def in_both(name: str, target, threads: int) -> dict:
    """In the worker: one network on one thread and on several."""
    import spaces.ops
    from backends.cores import apart
    from evaluators.compare import in_turns
    from evaluators.model import load_model

    spaces.ops.register_all()
    model = load_model(name, ())
    with tempfile.TemporaryDirectory(prefix="netwright-") as folder:
        runners = {count: _runner(model, replace(target, threads=count), Path(folder)) for count in (1, threads)}
        with apart(threads):
            timings = in_turns(runners)
    ratio = timings[1].ratio(timings[threads])
    return {"one_thread": timings[1].summary(), "threads": timings[threads].summary(),
            "speedup": ratio["ratio"], "speedup_interval": ratio["ratio_interval"]}


def _runner(model, target, folder: Path):
    from backends.compile import compile_program
    from backends.library import Library

    path = folder / f"{target.threads}.so"
    report = compile_program(model.program, target, path)
    weights = {name: tensor.detach().numpy() for name, tensor in model.program.state_dict.items()}
    return Library(path, report.parameters, weights).runner(model.image)


def show(result: dict) -> None:
    """A table of times and ratios."""
    table = Table(title=f"one input, target {result['target']}, medians in ms")
    for column in ("network", "one thread", f"{result['threads']} threads", "times as fast", "95% interval"):
        table.add_column(column)
    for name, net in result["networks"].items():
        low, high = net["speedup_interval"]
        table.add_row(name, f"{net['one_thread']['latency_ms']:.3f}", f"{net['threads']['latency_ms']:.3f}",
                      f"{net['speedup']:.2f}", f"{low:.2f} to {high:.2f}")
    Console().print(table)
