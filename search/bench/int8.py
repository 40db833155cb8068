"""The networks of `bench nets` quantised to 8 bits, beside ONNX Runtime and OpenVINO on the same quantised file, in turns."""

from math import exp, log
from statistics import fmean

from rich.console import Console

from evaluators.quantised import measure_quantised
from search.bench.nets import LARGE, PEERS, SMALL, beside_peers, candidates, times


def run(target) -> dict:
    """Per network what `netwright measure` gives of its quantised file, the ratio to the better peer, and the agreement with
    ONNX Runtime; the ratios' geometric mean."""
    results = {name: beside_peers(name, target, measure_quantised, (1, 3, 32, 32), target, PEERS)
               for name in (*LARGE, *SMALL, *candidates())}
    mean = exp(fmean(log(net["to_better_peer"]) for net in results.values()))
    return {"target": target.name, "threads": target.threads, "networks": results, "geometric_mean": mean}


def show(result: dict) -> None:
    """A table of times, ratios and agreement."""
    console = Console()
    console.print(times(result, "8-bit integers", {
        "same class as ONNX Runtime": lambda net: f"{net['agreement']:.1%}",
        "ONNX Runtime with itself": lambda net: f"{net['peer_agreement']:.1%}"}))
    console.print(f"geometric mean {result['geometric_mean']:.3f}")
