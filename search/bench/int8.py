"""The networks of `bench nets` quantised to 8 bits, beside ONNX Runtime and OpenVINO on the same quantised file, in turns."""

import sys
from math import exp, log
from statistics import fmean

from rich.console import Console
from rich.table import Table

from backends.worker import Worker
from evaluators.quantised import measure_quantised
from search.bench.nets import LARGE, LIMIT_S, PEERS, SMALL, candidates


def run(target) -> dict:
    """Per network what `netwright measure` gives of its quantised file, the ratio to the better peer, and the agreement with
    ONNX Runtime; the ratios' geometric mean."""
    results = {name: _measured(name, target) for name in (*LARGE, *SMALL, *candidates())}
    mean = exp(fmean(log(net["to_better_peer"]) for net in results.values()))
    return {"target": target.name, "threads": target.threads, "networks": results, "geometric_mean": mean}


def _measured(name: str, target) -> dict:
    from evaluators.score import environment

    worker = Worker(environment(target.threads))
    try:
        result = worker.call(measure_quantised, name, (1, 3, 32, 32), target, PEERS, timeout_s=LIMIT_S)
    finally:
        worker.close()
    better = min(result["peers"].values(), key=lambda peer: peer["latency_ms"])
    result |= {"to_better_peer": better["ratio"], "to_better_peer_interval": better["ratio_interval"]}
    print(f"{name}: {result['latency_ms']:.4f} ms, {better['ratio']:.3f} of the better peer's time", file=sys.stderr)
    return result


def show(result: dict) -> None:
    """A table of times, ratios and agreement."""
    table = Table(title=f"8-bit integers, one input, target {result['target']}, threads {result['threads']}, medians in ms")
    for column in ("network", "netwright", *PEERS, "ratio to the better", "95% interval", "fallback", "same class as ONNX Runtime"):
        table.add_column(column)
    for name, net in result["networks"].items():
        low, high = net["to_better_peer_interval"]
        peers = [f"{net['peers'][peer]['latency_ms']:.4f}" for peer in PEERS]
        table.add_row(name, f"{net['latency_ms']:.4f}", *peers, f"{net['to_better_peer']:.3f}", f"{low:.3f} to {high:.3f}",
                      str(net["fallback"]), f"{net['agreement']:.1%}")
    console = Console()
    console.print(table)
    console.print(f"geometric mean {result['geometric_mean']:.3f}")
