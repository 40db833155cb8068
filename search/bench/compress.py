"""ResNet-20 as a user brings it, through `netwright compress` for an hour: is the front better than uniform settings, and how much smaller
and faster is it than the network itself, at what accuracy?

Afterwards the network uncompressed and each uniform setting get the training of the study's last rung. Where
a uniform setting is nowhere worse than a member of the front in the study's objectives, and somewhere better, it says so.

CIFAR-10 from cifar10.zip and the weights from models/resnet_cifar in `$NETWRIGHT_DATA` (default: ../shared/data). What is done is kept in
runs/bench_compress.
"""

import os
from argparse import Namespace
from pathlib import Path

from rich.table import Table

from search.bench import console

FOLDER, MODEL = Path("runs/bench_compress"), "studies.resnet20_cifar:resnet20"
WEIGHTS, ARCHIVE = "models/resnet_cifar/resnet20-12fca82f.npz", "cifar10.zip"
MEAN, STD, TIME = "0.485,0.456,0.406", "0.229,0.224,0.225", "1h"
UNIFORM = {"uncompressed": "none", "all int8": "int8+huffman", "all 4 bits": "intn-bits4+huffman", "half of the filters": "l1_filters-keep0.5",
           "half of the filters, int8": "l1_filters-keep0.5+int8+huffman"}
LOST_POINTS, SMALLER, FASTER = 0.5, 4.0, 2.0


def run(target) -> dict:
    """The front, the uniform settings, and which of these beat a member."""
    from search import commands, front, storage

    data = Path(os.environ.get("NETWRIGHT_DATA", "../shared/data"))
    if not (FOLDER / "study.toml").is_file():
        commands.compress(Namespace(model=MODEL, weights=str(data / WEIGHTS), data=str(data / ARCHIVE), target=target.name, mean=MEAN, std=STD,
                                    out=str(FOLDER), time=TIME, storage=None, set=[]))
    study = storage.reopen(FOLDER)
    with commands.scorer_of(study, FOLDER) as scorer:
        uniform = {name: _scored(scorer, chain) for name, chain in UNIFORM.items()}
    rows = front.front_rows(FOLDER)
    return {"target": target.name, "objectives": study.study.objectives, "front": rows, "uniform": uniform,
            "beaten": _beaten(rows, uniform, study.study.objectives)}


def _scored(scorer, chain: str) -> dict:
    """The figures of one setting for all layers that it fits, after the last rung's training."""
    import json

    from search.study_file import StudyError
    from spaces.candidate import Candidate, Layer, fits, parse_chain

    block, methods = scorer.space.head[0].variants[0], parse_chain(chain)
    chains = tuple((role, tuple(method for method in methods if fits(method, block, role))) for role in block.roles())
    candidate = Candidate((Layer(block, scorer.space.classes, 1, chains),))
    kept = FOLDER / f"uniform.{candidate.id}.json"
    if not kept.is_file():
        result = scorer.score(candidate, len(scorer.teachers.rungs) - 1)
        if result.status == "failed":
            raise StudyError(f"{chain} in all layers: {result.reason}")
        kept.write_text(json.dumps({**result.metrics, **scorer.final(candidate.id), "candidate": str(candidate)}))
    return json.loads(kept.read_text())


def _beaten(rows: list[dict], uniform: dict[str, dict], objectives: list[str]) -> list[list[str]]:
    """Pairs of a uniform setting and a front member that it dominates."""
    from evaluators.evaluator import metrics
    from search.pareto import dominates, losses

    directions = [metrics()[name].direction for name in objectives]
    loss = {id(row): losses([row[name] for name in objectives], directions) for row in (*rows, *uniform.values())}
    return [[name, row["id"]] for name, figures in uniform.items() for row in rows if dominates(loss[id(figures)], loss[id(row)])]


def show(result: dict) -> None:
    """The front and the uniform settings beside the network itself, by test accuracy; then what the front shows."""
    dense = result["uniform"]["uncompressed"]
    table = Table(title=f"ResNet-20 on {result['target']}: {dense['test_accuracy']:.2%} of the test images that were kept for the end,"
                        f" {dense['stored_bytes']:,} bytes, {dense['latency_ms']:.4f} ms")
    for column in ("", "test accuracy", "points lost", "validation accuracy", "stored bytes", "times smaller", "ms", "times faster"):
        table.add_column(column)
    for name, row in [*result["uniform"].items(), *((row["id"], row) for row in result["front"])]:
        table.add_row(name, *_figures(row, dense))
    console().print(table)
    for name, key, times in (("smaller", "stored_bytes", SMALLER), ("faster", "latency_ms", FASTER)):
        good = [row["id"] for row in result["front"] if dense[key] / row[key] >= times and _lost(row, dense) <= LOST_POINTS]
        print(f"at least {times:g} times {name}, at most {LOST_POINTS:g} points lost: {', '.join(good) or 'none'}")
    for name, beaten in result["beaten"]:
        print(f"{name} is nowhere worse than {beaten} of the front, and somewhere better")
    if not result["beaten"]:
        print("no uniform setting is nowhere worse than a member of the front")


def _lost(row: dict, dense: dict) -> float:
    return 100 * (dense["test_accuracy"] - row["test_accuracy"])


def _figures(row: dict, dense: dict) -> tuple[str, ...]:
    return (f"{row['test_accuracy']:.4f}", f"{_lost(row, dense):+.2f}", f"{row['accuracy']:.4f}", f"{row['stored_bytes']:,.0f}",
            f"{dense['stored_bytes'] / row['stored_bytes']:.2f}", f"{row['latency_ms']:.4f}", f"{dense['latency_ms'] / row['latency_ms']:.2f}")
