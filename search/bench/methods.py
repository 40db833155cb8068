"""Every method on one trained network: what a method costs in accuracy, saves in bytes and in measured time, and what it promises.

A network of several blocks is trained on CIFAR-10 once. Each setting of each method then gets the same budget: some epochs before it is
applied to all layers that it fits but the first and the last, and some after; `none` gets them without. The deployed network is judged
on the test images, counted, compiled, and timed in turns with that of `none`. What is promised is the ratio of multiplications by weights
that are not zero; where more is promised than measured, the table says how much.

CIFAR-10 from cifar10.zip in `$NETWRIGHT_DATA` (default: ../shared/data). Takes long; what is done is kept in runs/bench_methods.
"""

import copy
import os
import shutil
import sys
from functools import partial
from pathlib import Path

from rich.table import Table

from backends.worker import Worker, WorkerError
from search.bench import console
from search.bench.rungs import Kept

STUDY, FOLDER, ARCHIVE = Path("studies/cifar10.toml"), Path("runs/bench_methods"), "cifar10.zip"
LAYERS = ("conv:32/2", "mbconv-expand4-se0.25:32/1", "fire-squeeze0.5-norm_batch:64/2", "depthwise_separable:128/2", "classifier:10/1")
EPOCHS, BEFORE, AFTER, LIMIT_S = 20, 1, 2, 900.0


def run(target) -> dict:
    """By setting: accuracy and its change in points, stored bytes, times smaller, times faster with its interval, times promised; or why
    it was refused."""
    from evaluators.score import environment

    FOLDER.mkdir(parents=True, exist_ok=True)
    bench, worker = _Bench.opened(), Worker(environment(target.threads))
    try:
        kept = Kept(FOLDER / "results.jsonl")
        dense = kept.get("none", "method", partial(bench.measured, "none", worker, target))
        rows = {}
        for token in settings():
            rows[token] = kept.get(token, "method", partial(bench.tried, token, worker, target))
            print(token, rows[token], file=sys.stderr)
    finally:
        worker.close()
    return {"target": target.name, "threads": target.threads, "network": " ".join(LAYERS), "epochs": [EPOCHS, BEFORE, AFTER], "none": dense,
            "methods": {token: _against(row, dense) for token, row in rows.items()}}


def settings() -> list[str]:
    """Every setting of every compression, and every recipe that needs neither a teacher nor sequences."""
    from spaces.gene import load, names

    compressions = {name: load("compression", name) for name in names("compression")}
    recipes = [name for name in names("recipes") if not load("recipes", name).needs_teacher and not load("recipes", name).needs_sequences]
    return [token for name, method in compressions.items() for token in method.SETTINGS or (name,)] + recipes


def candidate_of(token: str):
    """The network with a compression in all roles that it fits but those of the first and last layer; those if it fits no other."""
    from spaces.candidate import Candidate, Layer, fits
    from spaces.gene import names, parse

    layers = Candidate.parse(" ".join(LAYERS)).layers
    if token.partition("-")[0] in ("none", *names("recipes")):
        return Candidate(layers)
    method = parse("compression", token)
    chains = [tuple((role, (method,)) for role in layer.block.roles() if fits(method, layer.block, role)) for layer in layers]
    if any(chains[1:-1]):
        chains[0] = chains[-1] = ()
    return Candidate(tuple(Layer(layer.block, layer.width, layer.stride, chain) for layer, chain in zip(layers, chains)))


class _Bench:
    """The data, the study's settings and the trained network."""

    def __init__(self, study, dataset, network):
        self.study, self.dataset, self.network = study, dataset, network

    @classmethod
    def opened(cls):
        """The network is trained if it has not been."""
        import torch
        from safetensors.torch import load_file, save_file

        from evaluators.training.data import open_data
        from evaluators.training.loop import train
        from search.study_file import load
        from spaces.build import build

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        archive = Path(os.environ.get("NETWRIGHT_DATA", "../shared/data")) / ARCHIVE
        study = load(STUDY, [f"data.path={archive}"])
        bench = cls(study, open_data(study.data, 0), None)
        torch.manual_seed(0)
        bench.network, file = build(candidate_of("none"), bench.dataset.shape), FOLDER / "network.safetensors"
        if not file.is_file():
            train(bench.network, bench.dataset, bench.schedule(EPOCHS, study.train.learning_rate), 0)
            save_file(bench.network.state_dict(), file)
        bench.network.load_state_dict(load_file(file))
        return bench

    def schedule(self, epochs: int, learning_rate: float):
        """That of the study, for so many epochs."""
        from evaluators.pipeline import schedule_of

        return schedule_of(self.study.train, epochs, learning_rate)

    def tried(self, token: str, worker: Worker, target) -> dict:
        """`measured`, or the reason why not."""
        from evaluators.training.loop import Diverged
        from spaces.gene import SpaceError

        try:
            return self.measured(token, worker, target)
        except (SpaceError, Diverged, WorkerError) as error:
            return {"refused": str(error).splitlines()[0]}

    def measured(self, token: str, worker: Worker, target) -> dict:
        """Accuracy on the test images, bytes, multiplications and times of the deployed network."""
        from evaluators.stored_bytes import StoredBytes
        from evaluators.subject import Subject, export_program, save
        from evaluators.training.loop import evaluate
        from spaces.compress import coded

        candidate, frozen = candidate_of(token), self.deployed(token)
        program = export_program(frozen, self.dataset)
        folder = FOLDER / token
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        save(frozen, program, candidate, folder)
        image = self.dataset.normalised(self.dataset.test.images[:1])
        times = worker.call(beside, FOLDER / "none", folder, target.name, image.numpy(), timeout_s=LIMIT_S)
        return {"accuracy": evaluate(frozen, self.dataset.test, self.dataset), "multiplications": multiplications(frozen, image),
                **StoredBytes().evaluate(Subject(frozen, program, self.dataset, coded(candidate.chains), dict)), **times}

    def deployed(self, token: str):
        """The network after its part of the training."""
        import torch

        from evaluators.pipeline import calibration, compressed
        from evaluators.training.loop import train, warm
        from spaces.compress import before, prepare
        from spaces.freeze import freeze
        from spaces.gene import names, parse

        torch.manual_seed(0)
        candidate, network, table = candidate_of(token), copy.deepcopy(self.network), self.study.train
        recipes = [parse("recipes", token)] if token.partition("-")[0] in names("recipes") else []
        rate = table.finetune_learning_rate
        train(network, self.dataset, self.schedule(BEFORE, rate), 0, [*recipes, *before(candidate.chains)])
        if compressed(candidate):
            warmed = partial(warm, dataset=self.dataset, batch=table.batch, seed=0)
            network = prepare(network, candidate.chains, calibration(self.dataset, 0), warmed)
        train(network, self.dataset, self.schedule(AFTER, rate), 1, recipes)
        return freeze(network)


def beside(dense: Path, folder: Path, target_name: str, image) -> dict:
    """In the worker: compiles what is in `folder`, and times it in turns with what is in `dense`, compiled before; the time of both,
    and times faster with its interval."""
    from backends.compile import compile_program
    from backends.cores import apart
    from backends.target import load
    from evaluators.compare import in_turns
    from evaluators.compiled import load_program, open_library

    target = load(target_name)
    libraries = {}
    for place in (dense, folder):
        report = compile_program(load_program(place), target, place / "aside.so")
        (place / "aside.so").replace(place / "model.so")  # what this process has open stays as it is
        libraries[place] = open_library(place, report.parameters)
    with apart(target.threads):
        timings = in_turns({str(place): library.runner(image) for place, library in libraries.items()})
    ours = timings[str(folder)]
    ratio = timings[str(dense)].ratio(ours)
    return {"latency_ms": ours.summary()["latency_ms"], "times_faster": ratio["ratio"], "interval": ratio["ratio_interval"]}


def multiplications(frozen, image) -> int:
    """Of one inference, by weights that are not zero."""
    from spaces.unpacked import reads

    return sum(int((read.weight != 0).sum()) * read.out[0, 0].numel() for read in reads(frozen, image))


def _against(row: dict, dense: dict) -> dict:
    if "refused" in row:
        return row
    return {**row, "points": 100 * (row["accuracy"] - dense["accuracy"]), "times_smaller": dense["stored_bytes"] / row["stored_bytes"],
            "times_promised": dense["multiplications"] / max(1, row["multiplications"])}


def show(result: dict) -> None:
    """A line a setting, and what is promised but not measured."""
    dense = result["none"]
    table = Table(title=f"{result['network']}: test accuracy {dense['accuracy']:.2%}, {dense['stored_bytes']:,} bytes,"
                        f" {dense['latency_ms']:.4f} ms on {result['target']}, threads: {result['threads']}")
    for column in ("setting", "accuracy, points", "times smaller", "times faster, 95% interval", "times promised", "not realised"):
        table.add_column(column)
    for token, row in result["methods"].items():
        table.add_row(token, *_figures(row))
    console().print(table)


def _figures(row: dict) -> tuple[str, ...]:
    if "refused" in row:
        return "refused", row["refused"]
    low, high = row["interval"]
    short = row["times_promised"] / row["times_faster"]
    return (f"{row['points']:+.2f}", f"{row['times_smaller']:.2f}", f"{row['times_faster']:.2f}, {low:.2f} to {high:.2f}",
            f"{row['times_promised']:.2f}", f"{short:.2f} times" if row["times_promised"] > 1.01 and short > 1.01 else "")
