"""What teachers are worth on CIFAR-10: a small student by labels and by soft targets (Hinton et al., 2015 [1]), and a deep, thin one by
labels, by soft targets and by hints (Romero et al., 2015 [2]), all for equal epochs and with three seeds.

The teacher is ResNet-20 as published (Idelbayev, 2018), tuned on the training images for a few epochs. CIFAR-10 from cifar10.zip and
the network from models/resnet_cifar, both in `$NETWRIGHT_DATA` (default: ../shared/data). Takes about two hours on one core; what
is done is kept in runs/bench_distillation, so that one that was stopped goes on from there.
"""

import os
import time
from functools import partial
from pathlib import Path
from statistics import fmean

from rich.table import Table

from search.bench import console
from search.bench.int8 import ARCHIVE, WEIGHTS, published
from search.bench.rungs import Kept

FOLDER, SEEDS, EPOCHS, TEACHER_EPOCHS, TEACHER_RATE = Path("runs/bench_distillation"), (0, 1, 2), 8, 3, 0.02
STUDENTS = {
    "small": ("conv:24/2 mbconv-expand2:32/1 mbconv-expand4:48/2 fire-squeeze0.5-norm_batch:96/2 classifier:10/1",
              ("labels", "soft_targets")),
    "deep, thin": (f"conv:16/2 {'conv:16/1 ' * 5}conv:24/2 {'conv:24/1 ' * 5}conv:32/2 {'conv:32/1 ' * 5}classifier:10/1",
                   ("labels", "soft_targets", "hints"))}


def run(target) -> dict:
    """Per student its parameters and, per way to teach it, the test accuracies by seed and their mean; the teacher's accuracy."""
    import torch

    from evaluators.training.data import open_data
    from search.study_file import DataTable

    data = Path(os.environ.get("NETWRIGHT_DATA", "../shared/data"))
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    dataset = open_data(DataTable(source="folder", path=str(data / ARCHIVE), validation=0.1, augment=["crop", "flip"]), 0)
    kept = Kept(FOLDER / "results.jsonl")
    teacher = _teacher(data, dataset)
    students = {name: _student(kept, dataset, teacher, *student) for name, student in STUDENTS.items()}
    return {"epochs": EPOCHS, "teacher_accuracy": kept.get("teacher", "accuracy", lambda: _accuracy(teacher, dataset))["accuracy"],
            "students": students}


def _teacher(data: Path, dataset):
    """The published network, tuned; kept."""
    from safetensors.torch import load_file, save_file

    from evaluators.training.loop import train
    from evaluators.training.schedule import Schedule

    network, file = published(data / WEIGHTS), FOLDER / "teacher.safetensors"
    if file.is_file():
        network.load_state_dict(load_file(file))
    else:
        train(network, dataset, Schedule(TEACHER_EPOCHS, 128, TEACHER_RATE, 5e-4), 0)
        save_file(network.state_dict(), file)
    return network.eval()


def _student(kept: Kept, dataset, teacher, text: str, ways: tuple[str, ...]) -> dict:
    from spaces.build import build
    from spaces.candidate import Candidate

    found = {way: [kept.get(text, f"{way}, seed {seed}", partial(_taught, dataset, teacher, text, way, seed)) for seed in SEEDS]
             for way in ways}
    parameters = sum(parameter.numel() for parameter in build(Candidate.parse(text), dataset.shape).parameters())
    return {"candidate": text, "parameters": parameters,
            "ways": {way: {"seeds": rows, "mean": fmean(row["accuracy"] for row in rows)} for way, rows in found.items()}}


def _taught(dataset, teacher, text: str, way: str, seed: int) -> dict:
    """Test accuracy of the student after training in one of the ways, and the seconds it took."""
    import torch

    from evaluators.training.loop import train
    from evaluators.training.schedule import Schedule
    from spaces.build import build
    from spaces.candidate import Candidate
    from spaces.gene import parse

    torch.manual_seed(seed)
    network, recipes = build(Candidate.parse(text), dataset.shape), [] if way == "labels" else [parse("recipes", way)]
    begin = time.perf_counter()
    train(network, dataset, Schedule(EPOCHS, 128, 0.2, 5e-4), seed, recipes, teacher if recipes else None)
    return {**_accuracy(network, dataset), "seconds": time.perf_counter() - begin}


def _accuracy(network, dataset) -> dict:
    from evaluators.training.loop import evaluate

    return {"accuracy": evaluate(network, dataset.test, dataset)}


def show(result: dict) -> None:
    """Accuracies by student and way to teach it."""
    out = console()
    table = Table(title=f"test accuracy after {result['epochs']} epochs, mean of {len(SEEDS)} seeds;"
                        f" teacher {result['teacher_accuracy']:.1%}")
    for column in ("student", "parameters", "taught by", "accuracy", "by seed", "against labels, points", "seconds"):
        table.add_column(column)
    for name, student in result["students"].items():
        for way, found in student["ways"].items():
            gain = 100 * (found["mean"] - student["ways"]["labels"]["mean"])
            table.add_row(name, f"{student['parameters']:,}", way, f"{found['mean']:.2%}",
                          " ".join(f"{row['accuracy']:.2%}" for row in found["seeds"]), f"{gain:+.2f}",
                          f"{fmean(row['seconds'] for row in found['seeds']):.0f}")
    out.print(table)
