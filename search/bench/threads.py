"""What threads are worth: the zoo at 224x224 compiled for one thread and for the target's threads (two where it has one),
timed in turns in one process.

Beside the times stands what it takes to share a loop. It rises where the cores share no cache, and a virtual machine's may be
near each other at one time and apart at another: passes in which it was slow are counted for themselves.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

from rich.table import Table

from backends.measure import median_interval
from backends.worker import Worker
from search.bench import console
from search.bench.nets import LARGE, LIMIT_S

PASSES = 10
# Passes are "slow" if sharing a loop took this many times what it took in the quickest one.
SLOW = 1.4


def run(target) -> dict:
    """Per network the times of both, in milliseconds, their ratio, and the time of an empty shared loop, in microseconds, pass by
    pass."""
    from evaluators.score import environment

    threads = max(2, target.threads)
    networks = {}
    for name in LARGE:
        worker = Worker(environment(threads))
        try:
            networks[name] = worker.call(in_both, name, target, threads, timeout_s=LIMIT_S)
        finally:
            worker.close()
        print(f"{name}: done", file=sys.stderr)
    return {"target": target.name, "threads": threads, "networks": networks}


def in_both(name: str, target, threads: int) -> list[dict]:
    """In the worker: passes of one network on one thread and on several."""
    import spaces.ops
    from evaluators.model import load_model

    spaces.ops.register_all()
    model, several = load_model(name, ()), replace(target, threads=threads)
    with tempfile.TemporaryDirectory(prefix="netwright-") as folder:
        runners = {count: _runner(model, replace(target, threads=count), Path(folder)) for count in (1, threads)}
        return [_pass(runners, several) for _ in range(PASSES)]


def _pass(runners: dict, several) -> dict:
    """The samples of each, and the dearer of two empty shared loops, before and after."""
    from backends.cores import apart, fork_join_us
    from evaluators.compare import in_turns

    with apart(several.threads):
        before, timings, after = fork_join_us(several), in_turns(runners), fork_join_us(several)
    return {"one_thread_ms": timings[1].samples_ms, "threads_ms": timings[several.threads].samples_ms,
            "fork_join_us": max(before, after)}


def _runner(model, target, folder: Path):
    from backends.compile import compile_program
    from backends.library import Library

    path = folder / f"{target.threads}.so"
    report = compile_program(model.program, target, path)
    weights = {name: tensor.detach().numpy() for name, tensor in model.program.state_dict.items()}
    return Library(path, report.parameters, weights).runner(model.image)


def show(result: dict) -> None:
    """A table of times and ratios, with a line of its own for the passes in which sharing a loop was slow."""
    table = Table(title=f"one input, target {result['target']}, medians in ms")
    for column in ("network", "one thread", f"{result['threads']} threads", "times as fast", "95% interval", "shared loop, us", "passes"):
        table.add_column(column)
    quickest = min(one["fork_join_us"] for passes in result["networks"].values() for one in passes)
    for name, passes in result["networks"].items():
        for slow in (False, True):
            if chosen := [one for one in passes if (one["fork_join_us"] > SLOW * quickest) == slow]:
                table.add_row(name, *_figures(chosen), str(len(chosen)))
    console().print(table)


def _figures(passes: list[dict]) -> list[str]:
    """Times, their ratio round by round, and that of a shared loop, over passes."""
    one, several = ([sample for each in passes for sample in each[key]] for key in ("one_thread_ms", "threads_ms"))
    ratios = [mine / theirs for mine, theirs in zip(one, several)]
    low, high = median_interval(ratios)
    return [f"{median(one):.3f}", f"{median(several):.3f}", f"{median(ratios):.2f}", f"{low:.2f} to {high:.2f}",
            f"{median(each['fork_join_us'] for each in passes):.2f}"]
