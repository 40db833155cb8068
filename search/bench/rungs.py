"""What cheap accuracies say of full training: random candidates of studies/cifar10.toml at each rung, and trained by themselves with
two seeds, compared by rank (Kendall's tau-b, 1938), beside multiply-accumulates and parameters as predictors.

CIFAR-10 from cifar10.zip in `$NETWRIGHT_DATA` (default: ../shared/data). Takes hours on two cores; what is done is kept in
runs/bench_rungs, so that one that was stopped goes on from there.
"""

import json
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from rich.table import Table

from search.bench import console

STUDY, FOLDER, ARCHIVE = Path("studies/cifar10.toml"), Path("runs/bench_rungs"), "cifar10.zip"
CANDIDATES, SEEDS, RESAMPLES, COLUMNS, LINES = 24, (0, 1), 2000, 72, 20
RUNGS, TRAINING = ["inherit", "finetune:2", "full"], ["train.epochs=6", "train.finetune_epochs=2"]


def run(target) -> dict:
    """Accuracies of every candidate at each rung and seed, their costs, and how well they agree."""
    import torch

    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(_cores())
    archive = Path(os.environ.get("NETWRIGHT_DATA", "../shared/data")) / ARCHIVE
    study = _Study(STUDY, (f"data.path={archive}", f"train.rungs={json.dumps(RUNGS)}", *TRAINING), FOLDER)
    teachers, kept, begin = study.teachers(), Kept(FOLDER / "results.jsonl"), time.perf_counter()
    teachers.prepare()
    supernet_s = kept.get("supernet", "seconds", lambda: {"seconds": time.perf_counter() - begin})["seconds"]
    rows = _rows(study, kept, [str(candidate) for candidate in _candidates(teachers.space)])
    return {"supernet_seconds": supernet_s, "candidates": rows, "tau": _taus(rows)}


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class _Study:
    """What each process opens for itself: a study file with overrides, and where its supernet is kept."""

    file: Path
    overrides: tuple[str, ...]
    folder: Path

    @cache
    def teachers(self):
        from evaluators.teachers import Teachers
        from evaluators.training.data import open_data
        from search.study_file import load
        from spaces.space import Space

        study = load(self.file, list(self.overrides))
        dataset, table = open_data(study.data, study.study.seed), study.space
        space = Space.from_tables(table.stages, table.head, table.compression, table.recipes, len(dataset.classes))
        return Teachers(study, space, dataset, self.folder)


class Kept:
    """Results by candidate and kind, one JSON line each."""

    def __init__(self, file: Path):
        self._file = file
        lines = file.read_text().splitlines() if file.is_file() else []
        self._found = {(row["candidate"], row["kind"]): row for row in map(json.loads, lines)}

    def get(self, candidate: str, kind: str, find) -> dict:
        """What is kept, or what `find` gives, which is then kept."""
        if (candidate, kind) not in self._found:
            row = {"candidate": candidate, "kind": kind, **find()}
            with open(self._file, "a") as file:
                file.write(json.dumps(row) + "\n")
            self._found[candidate, kind] = row
        return self._found[candidate, kind]


def _candidates(space) -> list:
    """Different random ones, compressions included."""
    pick, found = random.Random(0), []
    while len(found) < CANDIDATES:
        candidate = space.sample(lambda name, options: pick.choice(options))
        if candidate not in found:
            found.append(candidate)
    return found


def _rows(study: _Study, kept: Kept, texts: list[str]) -> list[dict]:
    """The candidates' figures; the seconds are those of training, compressing and judging one. Training whole epochs is done beside
    others, a process and a thread for each core; the cheapest rung is timed with all cores for itself."""
    counted = [kept.get(text, "counted", partial(_counted, study, text)) for text in texts]
    cheapest = [kept.get(text, RUNGS[0], partial(_judged, study, 0, 0, text)) for text in texts]
    jobs = {name: (rung, 0) for rung, name in enumerate(RUNGS[:-1]) if rung} | {_full(seed): (len(RUNGS) - 1, seed) for seed in SEEDS}
    found = {RUNGS[0]: cheapest} | _beside(study, kept, texts, jobs)
    return [{**counted[i], **{name: found[name][i] for name in RUNGS[:-1]}, "full": [found[_full(seed)][i] for seed in SEEDS]}
            for i in range(len(texts))]


def _full(seed: int) -> str:
    return f"full, seed {seed}"


def _beside(study: _Study, kept: Kept, texts: list[str], jobs: dict[str, tuple[int, int]]) -> dict[str, list[dict]]:
    """By name of a job (a rung's number, and a seed) its result for each candidate."""
    with ThreadPoolExecutor(_cores()) as threads, ProcessPoolExecutor(_cores(), get_context("spawn"), _one_thread) as processes:
        def judged(name: str, text: str) -> dict:
            return kept.get(text, name, lambda: processes.submit(_judged, study, *jobs[name], text).result())
        # One job at a time: those of one candidate keep their training in the same place.
        return {name: list(threads.map(partial(judged, name), texts)) for name in jobs}


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _judged(study: _Study, rung: int, seed: int, text: str) -> dict:
    from evaluators.training.loop import evaluate
    from spaces.candidate import Candidate

    teachers, candidate, begin = study.teachers(), Candidate.parse(text), time.perf_counter()
    network, _ = teachers.trained(candidate, teachers.rungs[rung], seed + int(candidate.id, 16) % 1000)
    accuracy = evaluate(network, teachers.dataset.validation, teachers.dataset)
    teachers.forget(candidate.id)
    return {"accuracy": accuracy, "seconds": time.perf_counter() - begin}


def _counted(study: _Study, text: str) -> dict:
    """Multiply-accumulates and parameters of the deployed network, untrained."""
    from evaluators.macs import Macs
    from evaluators.parameters import Parameters
    from evaluators.pipeline import untrained
    from evaluators.subject import Subject, export_program
    from spaces.candidate import Candidate

    teachers = study.teachers()
    network = untrained(Candidate.parse(text), teachers.dataset, teachers.study.train)
    subject = Subject(network, export_program(network, teachers.dataset), teachers.dataset, (), dict)
    return Macs().evaluate(subject) | Parameters().evaluate(subject)


def _taus(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Kendall's tau of each predictor with the accuracy after full training, the mean of its seeds, and its 95% interval by
    resampling the candidates; for the seeds, of one with the other."""
    full = [sum(result["accuracy"] for result in row["full"]) / len(SEEDS) for row in rows]
    predictors = {rung: [row[rung]["accuracy"] for row in rows] for rung in RUNGS[:-1]}
    predictors |= {name: [row[name] for row in rows] for name in ("macs", "parameters")}
    first, second = ([row["full"][seed]["accuracy"] for row in rows] for seed in SEEDS)
    return {name: _tau(values, full) for name, values in predictors.items()} | {"one seed, the other": _tau(first, second)}


def _tau(a: list[float], b: list[float]) -> dict[str, float]:
    import numpy as np
    from scipy.stats import kendalltau

    a, b, random_numbers = np.array(a), np.array(b), np.random.default_rng(0)
    drawn = (random_numbers.integers(len(a), size=len(a)) for _ in range(RESAMPLES))
    low, high = np.nanquantile([kendalltau(a[i], b[i]).statistic for i in drawn], [0.025, 0.975])
    return {"tau": float(kendalltau(a, b).statistic), "low": float(low), "high": float(high)}


def show(result: dict) -> None:
    """Agreement and costs, then a scatter plot for each rung."""
    out, rows = console(), result["candidates"]
    table = Table(title=f"{len(rows)} random candidates, accuracy after full training (mean of {len(SEEDS)} seeds) against")
    for column in ("predictor", "Kendall's tau", "95% interval", "seconds a candidate, median", "greatest"):
        table.add_column(column)
    for name, found in result["tau"].items():
        seconds = [row[name]["seconds"] for row in rows] if name in RUNGS else []
        costs = [f"{median(seconds):.1f}", f"{max(seconds):.1f}"] if seconds else ["", ""]
        table.add_row(name, f"{found['tau']:.3f}", f"{found['low']:.3f} to {found['high']:.3f}", *costs)
    out.print(table)
    out.print(f"full training: {median(r['full'][0]['seconds'] for r in rows):.0f} s a candidate; supernet:"
              f" {result['supernet_seconds'] / 60:.1f} min, once")
    for rung in RUNGS[:-1]:
        full = [sum(r["accuracy"] for r in row["full"]) / len(SEEDS) for row in rows]
        out.print(scatter([row[rung]["accuracy"] for row in rows], full, f"accuracy at {rung}", "after full training"), highlight=False)


def scatter(xs: list[float], ys: list[float], x_name: str, y_name: str) -> str:
    """Points as characters, the axes' ends named."""
    grid = [[" "] * COLUMNS for _ in range(LINES)]
    (left, right), (low, high) = (min(xs), max(xs)), (min(ys), max(ys))
    for x, y in zip(xs, ys):
        column = round((x - left) / max(right - left, 1e-12) * (COLUMNS - 1))
        line = round((high - y) / max(high - low, 1e-12) * (LINES - 1))
        grid[line][column] = "o"
    body = "\n".join(f"  |{''.join(line)}" for line in grid)
    return f"{y_name}, {low:.3f} to {high:.3f}\n{body}\n  +{'-' * COLUMNS}\n   {x_name}, {left:.3f} to {right:.3f}\n"
