"""Single kernels against the roofline of this machine: every convolution and dense layer of the zoo of 1 MFLOP and more."""

import sys
from math import prod
from statistics import median

from rich.table import Table

from backends.worker import Worker
from search.bench import console
from search.bench.nets import LARGE, LIMIT_S, SMALL

LEAST_FLOPS = 1e6


def run(target) -> dict:
    """Per kernel its time and share of the bound; per kind the median share, for the best kernel and, for 3x3
    convolutions, for the best one that sums all products."""
    from evaluators.score import environment

    worker = Worker(environment(target.threads))
    try:
        found = {}
        for network in (*LARGE, *SMALL):
            rows, roofline = worker.call(kernels_of, network, target, timeout_s=LIMIT_S)
            found |= {row["workload"]: row for row in rows}
            print(f"{network}: {len(found)} kernels so far", file=sys.stderr)
    finally:
        worker.close()
    rows = sorted(found.values(), key=lambda row: (row["kind"], row["percent_of_bound"]))
    kinds = sorted({row["kind"] for row in rows})
    medians = {kind: {"count": sum(row["kind"] == kind for row in rows),
                      "percent_of_bound": median(r["percent_of_bound"] for r in rows if r["kind"] == kind),
                      "direct_percent_of_bound": median(r["direct_percent_of_bound"] for r in rows if r["kind"] == kind)}
               for kind in kinds}
    return {"target": target.name, "threads": target.threads, "roofline": roofline, "kernels": rows, "median": medians}


def kernels_of(network: str, target) -> tuple[list[dict], dict]:
    """In the worker: the large workloads of one network, tuned if the store does not know them, and the roofline."""
    import json

    import spaces.ops
    from backends.fusion import groups_of
    from backends.graph import read
    from backends.lowering import served_on
    from backends.report import report_on
    from backends.roofline import flops
    from backends.store import Store, default_path
    from backends.tune import bare, best
    from evaluators.model import load_model

    spaces.ops.register_all()
    store = Store(default_path(), target)
    parts = [(group, part.workload) for group in groups_of(read(load_model(network, ()).program, served_on(store.target))) for part in group.parts]
    rows = []
    for group, workload in parts:
        if "weight" in dict(workload.tensors) and flops(workload) >= LEAST_FLOPS:
            trial = best(workload, store.target, store)
            report = report_on(group, bare(workload), trial, store.roofline(), False)
            direct = min((t.us for t in store.trials(bare(workload)) if t.algorithm != "winograd"), default=trial.us)
            rows.append({"workload": str(bare(workload)), "kind": _kind(workload), "kernel": trial.algorithm,
                         "option": trial.option, "us": trial.us, "gflops": report.gflops, "bound": report.bound,
                         "percent_of_bound": report.percent_of_bound,
                         "direct_percent_of_bound": report.percent_of_bound * trial.us / direct})
    return rows, json.loads(store.roofline().text())


def _kind(workload) -> str:
    if workload.op == "linear":
        return "dense"
    kernel, groups = workload["weight"].shape[2:], workload["groups"]
    if groups > 1:
        return "depthwise" if groups == workload["weight"].shape[0] else "grouped"
    return "pointwise" if prod(kernel) == 1 else f"direct {kernel[0]}x{kernel[1]}"


def show(result: dict) -> None:
    """A table of kernels, and the medians."""
    table = Table(title=f"kernels on {result['target']}, peak {result['roofline']['peak_gflops']:.1f} GFLOP/s")
    for column in ("kind", "workload", "kernel", "us", "GFLOP/s", "bound", "% of bound", "% without winograd"):
        table.add_column(column)
    for row in result["kernels"]:
        table.add_row(row["kind"], row["workload"], row["kernel"], f"{row['us']:.1f}", f"{row['gflops']:.1f}", row["bound"],
                      f"{row['percent_of_bound']:.0f}", f"{row['direct_percent_of_bound']:.0f}")
    out = console()
    out.print(table)
    for kind, figures in result["median"].items():
        out.print(f"{kind}: {figures['count']} kernels, median {figures['percent_of_bound']:.0f}% of the bound,"
                  f" {figures['direct_percent_of_bound']:.0f}% without Winograd")
