"""What a recurrent teacher is worth to a network that sees windows (Chan, Ke and Lane, 2015 [6]): spoken digits of a speaker whom neither
has heard, a small student by labels and by the teacher for equal epochs, with five seeds. A seed also draws who of the other speakers
is left out, as the validation split, which is not used.

Spoken digits from spoken_digits/fsdd_logmel_64x40.npz in `$NETWRIGHT_DATA` (default: ../shared/data). Takes some minutes on one core;
what is done is kept in runs/bench_sequences, so that one that was stopped goes on from there.
"""

import os
import time
from functools import partial
from pathlib import Path
from statistics import fmean

from rich.table import Table

from search.bench import console
from search.bench.rungs import Kept

FOLDER, FILE, SEEDS, EPOCHS, CONTEXT, LIMIT_S = Path("runs/bench_sequences"), "spoken_digits/fsdd_logmel_64x40.npz", range(5), 3, 4, 600.0
STUDENT, RECIPE, ASKED = "conv-kernel5:16/4 conv:32/2 depthwise_separable:64/2 classifier:10/1", "sequence_teacher", 0.05


def run(target) -> dict:
    """Per way to teach the student its test accuracies by seed, utterances judged, and their mean; the teacher's; parameters; the share of
    the errors by labels that the teacher spares; the compiled student's time for one window."""
    import torch

    path = str(Path(os.environ.get("NETWRIGHT_DATA", "../shared/data")) / FILE)
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    kept = Kept(FOLDER / "results.jsonl")
    rows = [_of_seed(kept, path, seed) for seed in SEEDS]
    ways = {way: {"seeds": [row[way] for row in rows], "mean": fmean(row[way]["accuracy"] for row in rows)} for way in rows[0]}
    latency = kept.get(STUDENT, f"latency on {target.name}", partial(_latency, target))
    return {"candidate": STUDENT, "epochs": EPOCHS, "ways": ways, "error_cut": _cut(ways), "latency_ms": latency["latency_ms"],
            "interval_ms": latency["interval_ms"], "shape": latency["shape"]}


def _of_seed(kept: Kept, path: str, seed: int) -> dict[str, dict]:
    """Accuracy, parameters and seconds of the teacher, and of the student by each way."""
    from evaluators.training.data import open_data
    from search.study_file import DataTable

    dataset = open_data(DataTable(source="frames", path=path, context=CONTEXT), seed)
    jobs = {"teacher": partial(_teacher, dataset), **{way: partial(_taught, dataset, way, seed) for way in ("labels", RECIPE)}}
    return {way: kept.get(STUDENT, f"{way}, seed {seed}", job) for way, job in jobs.items()}


def _teacher(dataset) -> dict:
    """The recurrent network, judged as the student is."""
    import torch

    from spaces.gene import parse
    from spaces.recipes.sequence_teacher import log_posteriors

    begin = time.perf_counter()
    teacher, spoken = parse("recipes", RECIPE).teacher(dataset.sequences, torch.device("cpu")), dataset.utterances(dataset.test)
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        posteriors = log_posteriors(teacher, spoken.features)
    return {"accuracy": dataset.test.accuracy(posteriors[spoken.utterance, spoken.frame]), "parameters": _parameters(teacher),
            "seconds": seconds}


def _taught(dataset, way: str, seed: int) -> dict:
    """Test accuracy of the student after training in one of the ways, and the seconds it took, the teacher's not counted."""
    import torch

    from evaluators.training.loop import evaluate, train
    from evaluators.training.schedule import Schedule
    from spaces.build import build
    from spaces.candidate import Candidate
    from spaces.gene import parse

    recipes = [] if way == "labels" else [parse("recipes", way)]
    # Trained here, if it was not yet, it is remembered in the run that is timed.
    for recipe in recipes:
        recipe.teacher(dataset.sequences, torch.device("cpu"))
    torch.manual_seed(seed)
    network = build(Candidate.parse(STUDENT), dataset.shape)
    seconds = train(network, dataset, Schedule(EPOCHS, 256, 0.2, 5e-4, device="cpu"), seed, recipes)
    return {"accuracy": evaluate(network, dataset.test, dataset), "parameters": _parameters(network), "seconds": seconds}


def _parameters(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _latency(target) -> dict:
    """The student compiled for the target, untrained, and timed on one window: what a frame costs as it comes in."""
    from backends.worker import Worker
    from evaluators.measured import measure_model
    from evaluators.score import environment

    worker, shape = Worker(environment(target.threads)), (1, 1, 2 * CONTEXT + 1, 40)
    try:
        found = worker.call(measure_model, STUDENT, shape, target, [], False, timeout_s=LIMIT_S)
    finally:
        worker.close()
    return {"latency_ms": found["latency_ms"], "interval_ms": found["interval_ms"], "shape": shape}


def _cut(ways: dict) -> float:
    """How much smaller the mean error by the teacher is than that by labels, as a share of it."""
    return 1 - (1 - ways[RECIPE]["mean"]) / (1 - ways["labels"]["mean"])


def show(result: dict) -> None:
    """Accuracies by way, the error cut, and the time of a frame."""
    out, ways = console(), result["ways"]
    table = Table(title=f"spoken digits, a speaker not heard before, utterances; the student {result['candidate']} after {result['epochs']}"
                        " epochs")
    for column in ("network", "parameters", "accuracy, mean", "by seed", "seconds"):
        table.add_column(column)
    for way, found in ways.items():
        rows = found["seeds"]
        table.add_row("teacher" if way == "teacher" else f"student by {way}", f"{rows[0]['parameters']:,}", f"{found['mean']:.2%}",
                      " ".join(f"{row['accuracy']:.2%}" for row in rows), f"{fmean(row['seconds'] for row in rows):.0f}")
    out.print(table)
    low, high = result["interval_ms"]
    out.print(f"errors cut by the teacher: {result['error_cut']:.1%} of those by labels (asked: {ASKED:.0%}); one frame, a window of"
              f" {'x'.join(map(str, result['shape'][2:]))}: {1000 * result['latency_ms']:.1f} us ({1000 * low:.1f} to {1000 * high:.1f})")
