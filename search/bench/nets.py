"""Whole networks beside ONNX Runtime and OpenVINO, in turns: the zoo at 224x224 and 32x32, and ten random candidates of
studies/cifar10.toml without compression. Each network is measured in a process of its own."""

import sys
from collections.abc import Callable
from math import exp, log
from pathlib import Path
from statistics import fmean

from rich.table import Table
from search.bench import console

from backends.worker import Worker
from evaluators.measured import measure_model

LARGE = ("squeezenet1_1@224", "mobilenet_v1@224", "mobilenet_v2@224", "mobilenet_v3_small@224")
SMALL = ("squeezenet1_1@32", "mobilenet_v1@32", "mobilenet_v2@32", "resnet20@32")
CANDIDATES, SEED = 10, 0
PEERS = ["onnxruntime", "openvino"]
STUDY = Path(__file__).parents[2] / "studies" / "cifar10.toml"
LIMIT_S = 600.0


def run(target) -> dict:
    """Per network what `netwright measure` gives, and its ratio to the better peer; per group the geometric mean."""
    groups = {"224x224": LARGE, "32x32": (*SMALL, *candidates())}
    results = {name: beside_peers(name, target, measure_model, (1, 3, 32, 32), target, PEERS, False)
               for group in groups.values() for name in group}
    means = {name: exp(fmean(log(results[net]["to_better_peer"]) for net in group)) for name, group in groups.items()}
    return {"target": target.name, "threads": target.threads, "networks": results, "geometric_mean": means}


def candidates() -> list[str]:
    """Random candidates of the study's space, as text, their compressions left out."""
    import random
    from dataclasses import replace

    from search.study_file import load
    from spaces.space import Space

    study, rng = load(str(STUDY), []), random.Random(SEED)
    space = Space.from_tables(study.space.stages, study.space.head, study.space.compression, study.space.recipes, 10)
    found = [space.sample(lambda name, options: rng.choice(options)) for _ in range(CANDIDATES)]
    return [str(replace(c, layers=tuple(replace(layer, compressions=()) for layer in c.layers), recipes=())) for c in found]


def beside_peers(name: str, target, measure: Callable, *arguments) -> dict:
    """`measure(name, *arguments)` in a process of its own, and the ratio to the better peer."""
    from evaluators.score import environment

    worker = Worker(environment(target.threads))
    try:
        result = worker.call(measure, name, *arguments, timeout_s=LIMIT_S)
    finally:
        worker.close()
    better = min(result["peers"].values(), key=lambda peer: peer["latency_ms"])
    result |= {"to_better_peer": better["ratio"], "to_better_peer_interval": better["ratio_interval"]}
    print(f"{name}: {result['latency_ms']:.4f} ms, {better['ratio']:.3f} of the better peer's time", file=sys.stderr)
    return result


def show(result: dict) -> None:
    """A table of times and ratios."""
    out = console()
    out.print(times(result, "float32", {"largest error": lambda net: f"{net['error']:.1e}"}))
    for group, mean in result["geometric_mean"].items():
        out.print(f"{group}: geometric mean {mean:.3f}")


def times(result: dict, numbers: str, more: dict[str, Callable]) -> Table:
    """Every network's time beside its peers', with further columns by name."""
    table = Table(title=f"{numbers}, one input, target {result['target']}, threads {result['threads']}, medians in ms")
    for column in ("network", "netwright", *PEERS, "ratio to the better", "95% interval", "fallback", *more):
        table.add_column(column)
    for name, net in result["networks"].items():
        low, high = net["to_better_peer_interval"]
        peers = [f"{net['peers'][peer]['latency_ms']:.4f}" for peer in PEERS]
        table.add_row(name, f"{net['latency_ms']:.4f}", *peers, f"{net['to_better_peer']:.3f}", f"{low:.3f} to {high:.3f}",
                      str(net["fallback"]), *(figure(net) for figure in more.values()))
    return table
