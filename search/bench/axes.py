"""Does it pay to search architecture and compression together? `studies/cifar10.toml` as it is, without its compressions, and with one
architecture alone, the widest of the blocks that stand first, each for the same time; then which members of the joint front no member of
the other two is as good as in every objective, and the hypervolume of each front (Zitzler and Thiele, 1999) in one box: from each
objective's best to its worst value on the three fronts.

CIFAR-10 from cifar10.zip in `$NETWRIGHT_DATA` (default: ../shared/data). The studies are kept in runs/bench_axes.
"""

import os
from argparse import Namespace
from pathlib import Path

import msgspec
from rich.table import Table

from search.bench import console
from search.study_file import SpaceTable, StudyFile

STUDY, FOLDER, ARCHIVE, TIME = Path("studies/cifar10.toml"), Path("runs/bench_axes"), "cifar10.zip", "20m"
CHANGES = ("study.trials=10000",)


def run(target) -> dict:
    """By axis: the front, its hypervolume, and candidates scored; the joint members that the others do not reach."""
    from search import commands, front, storage
    from search.study_file import load

    archive = Path(os.environ.get("NETWRIGHT_DATA", "../shared/data")) / ARCHIVE
    study = load(STUDY, [f"data.path={archive}", f"target.name={target.name}", *CHANGES])
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, axis in axes(study).items():
        if not (FOLDER / name / "front.csv").is_file():
            (FOLDER / f"{name}.toml").write_text(storage.toml(axis))
            commands.run(Namespace(study=FOLDER / f"{name}.toml", set=[], trials=None, time=TIME, out=str(FOLDER / name), storage=None))
    fronts = {name: front.front_rows(FOLDER / name) for name in axes(study)}
    scored = {name: len(front.scored_rows(FOLDER / name)) for name in fronts}
    losses = {name: _losses(rows, study.study.objectives) for name, rows in fronts.items()}
    return {"target": target.name, "time": TIME, "objectives": study.study.objectives, "fronts": fronts, "scored": scored,
            "hypervolume": hypervolumes(losses), "unreached": _unreached(fronts, losses)}


def axes(study: StudyFile) -> dict[str, StudyFile]:
    """The study, and each of its axes alone."""
    plain = msgspec.structs.replace(study.space, compression={"*": ["none"]})
    single = _of_its_blocks(msgspec.structs.replace(study.space, stages=[_widest(stage) for stage in study.space.stages]))
    spaces = {"joint": study.space, "architecture": plain, "compression": single}
    return {name: msgspec.structs.replace(study, space=space) for name, space in spaces.items()}


def _of_its_blocks(space: SpaceTable) -> SpaceTable:
    """The space without the compressions of blocks that are not in it any more."""
    from spaces.space import Space

    bare = Space.from_tables(space.stages, space.head, {}, [], 2)
    roles = {role for choice in (*(block for stage in bare.stages for block in stage.blocks), *bare.head) for role in choice.roles}
    return msgspec.structs.replace(space, compression={role: chains for role, chains in space.compression.items() if role in {"*", *roles}})


def _widest(stage: dict) -> dict:
    """The stage with its greatest numbers, least stride and first block."""
    from spaces.gene import load

    block = next(block for block in stage["blocks"] if not load("blocks", block["name"]).KEEPS_WIDTH)
    return {**{key: min(_options(value)) if key == "stride" else max(_options(value)) for key, value in stage.items() if key != "blocks"},
            "blocks": [{key: _greatest(value) for key, value in block.items()}]}


def _options(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _greatest(value: object) -> object:
    options = _options(value)
    return options[0] if isinstance(options[0], str) else max(options)


def _losses(rows: list[dict], objectives: list[str]) -> list[tuple[float, ...]]:
    from evaluators.evaluator import metrics
    from search.pareto import losses

    directions = [metrics()[name].direction for name in objectives]
    return [losses([row[name] for name in objectives], directions) for row in rows]


def hypervolumes(fronts: dict[str, list[tuple[float, ...]]]) -> dict[str, float]:
    """The share that each front dominates of the box between the best and the worst values of all of them."""
    import moocore
    import numpy as np

    whole = np.array([loss for front in fronts.values() for loss in front])
    best, worst = whole.min(0), whole.max(0)
    scaled = {name: (np.array(front) - best) / np.maximum(worst - best, 1e-12) for name, front in fronts.items()}
    return {name: float(moocore.hypervolume(points, ref=np.ones(whole.shape[1]))) for name, points in scaled.items()}


def _unreached(fronts: dict[str, list[dict]], losses: dict[str, list[tuple[float, ...]]]) -> list[str]:
    """Ids of the joint front's members that no other front has something as good as."""
    others = [loss for name, front in losses.items() if name != "joint" for loss in front]
    return [row["id"] for row, loss in zip(fronts["joint"], losses["joint"])
            if not any(all(a <= b for a, b in zip(other, loss)) for other in others)]


def show(result: dict) -> None:
    """A line a front, then the joint front."""
    table = Table(title=f"{result['time']} each on {result['target']}")
    for column in ("axis", "candidates scored", "on the front", "hypervolume"):
        table.add_column(column)
    for name, rows in result["fronts"].items():
        table.add_row(name, str(result["scored"][name]), str(len(rows)), f"{result['hypervolume'][name]:.4f}")
    console().print(table)
    table = Table("id", *result["objectives"], "reached by one axis alone", title="the joint front")
    for row in result["fronts"]["joint"]:
        figures = (f"{row[name]:,.6g}" for name in result["objectives"])
        table.add_row(row["id"], *figures, "no" if row["id"] in result["unreached"] else "yes")
    console().print(table)
