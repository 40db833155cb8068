"""Scoring: a candidate is built, trained as much as its rung says, compressed, frozen, counted, compiled and measured.

Cheap figures come first: where a constraint on a counted metric is broken by the network's shapes
alone, it is not trained. Whatever goes wrong with a candidate is a Result with the reason; a full disk
or another fault of the machine ends the study instead.
"""

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from backends.worker import Worker, WorkerError
from evaluators.compiled import compile_and_measure, logits, measure_again
from evaluators.constraint import Constraint
from evaluators.evaluator import COUNTED, evaluators
from evaluators.pipeline import shapes_fixed, untrained
from evaluators.subject import FilesError, Subject, check_files, export_program, save
from evaluators.teachers import Teachers
from spaces.candidate import Candidate
from spaces.compress import coded
from spaces.prepared import EmptyRange
from spaces.space import Space

VERIFIED_IMAGES = 128
JOB_SECONDS = 300.0


@dataclass(frozen=True)
class Result:
    """status: "scored", "infeasible" (a constraint is broken) or "failed"; `reason` for the latter two."""

    status: str
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""


class Scorer:
    """Scores the candidates of one study. Holds its data, its teachers, its supernet and the measuring process."""

    def __init__(self, study, directory: Path):
        """study: a study file (search.study_file.StudyFile); directory: the study's folder."""
        import torch

        from backends.target import reached
        from evaluators.training.data import open_data

        target = reached(study.target.name)
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
        self.study, self.directory = study, directory
        self.dataset = as_wanted(open_data(study.data, study.study.seed), study.model)
        self.space = space_of(study, self.dataset, directory)
        self.space.check(self.dataset.shape)
        self.space.check_recipes(self.dataset.sequences, self.dataset.augment)
        check_start(self.space, study.start.candidates)
        self._constraints = [Constraint.parse(text) for text in study.study.constraints]
        self.teachers = Teachers(study, self.space, self.dataset, directory)
        self._worker = Worker(environment(target.threads))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self._worker.close()

    def folder(self, identity: str) -> Path:
        """Where a candidate's files are."""
        return self.directory / "candidates" / identity

    def keep_network(self) -> None:
        """Puts the network of the study's [model], if it has one, into the study's folder."""
        from spaces.given import copy_to

        if self.study.model is not None:
            copy_to(self.space.head[0].variants[0].network, self.directory)

    def score(self, candidate: Candidate, rung: int = 0) -> Result:
        """Everything about one candidate after the training of a rung, and its files in `candidates/<id>/`."""
        # A folder for each rung: the measuring process would take another library of the same path for the one it has open. What a
        # killed run left there goes when the candidate comes back.
        aside = self.folder(f".{candidate.id}.{rung}")
        try:
            early = self._counted_early(candidate)
            if early.status == "infeasible":
                return early
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            metrics = self._evaluate(candidate, rung, aside)
            _replace(aside, self.folder(candidate.id))
            self.teachers.forget(candidate.id)
            return self._judged(metrics)
        except OSError:
            raise
        except Exception as error:  # a failed candidate is a value; the study goes on
            self.teachers.forget(candidate.id)
            return Result("failed", reason=f"{type(error).__name__}: {error}".splitlines()[0])
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def final(self, identity: str) -> dict[str, Any]:
        """Figures to report: test accuracy by the compiled network, and the latency measured whole again.

        FilesError if the candidate's files are missing or corrupt, or the network does not run any more.
        """
        import torch

        folder, target = self.folder(identity), self.study.target.name
        check_files(folder)
        parameters = json.loads((folder / "timing.json").read_text())["compiled"]["parameters"]
        images = self.dataset.normalised(self.dataset.test.images[:]).numpy()
        try:
            given = self._worker.call(logits, folder, parameters, images, timeout_s=10 * JOB_SECONDS)
            timing = self._worker.call(measure_again, folder, target, parameters, images[:1], timeout_s=JOB_SECONDS)
        except WorkerError as error:
            raise FilesError(f"{folder}: the compiled network does not run ({error})") from None
        return {"test_accuracy": self.dataset.test.accuracy(torch.from_numpy(given)), **timing}

    def _counted_early(self, candidate: Candidate) -> Result:
        """Counted metrics of the untrained network, if constraints need them and its shapes are fixed."""
        counted = {e.METRIC: e for e in evaluators() if e.STAGE == COUNTED}
        if not any(c.metric in counted for c in self._constraints) or not shapes_fixed(candidate):
            return Result("scored")
        try:
            subject = self._subject(candidate, untrained(candidate, self.dataset, self.study.train), None)
        except EmptyRange:
            return Result("scored")
        metrics = {key: value for e in counted.values() for key, value in e().evaluate(subject).items()}
        return self._judged(metrics, "before training, ")

    def _evaluate(self, candidate: Candidate, rung: int, folder: Path) -> dict[str, float]:
        seed = (self.study.study.seed + int(candidate.id, 16)) % 2**31
        network, seconds = self.teachers.trained(candidate, self.teachers.rungs[rung], seed)
        subject = self._subject(candidate, network, folder)
        save(network, subject.program, candidate, folder)
        metrics = {"train_seconds": seconds}
        for evaluator in evaluators():
            metrics |= evaluator().evaluate(subject)
        return metrics

    def _subject(self, candidate: Candidate, network, folder: Path | None) -> Subject:
        return Subject(network, export_program(network, self.dataset), self.dataset, coded(candidate.chains),
                       lambda: self._timing(folder))

    def _timing(self, folder: Path) -> dict[str, Any]:
        images = self.dataset.normalised(self.dataset.validation.images[:VERIFIED_IMAGES]).numpy()
        timing = self._worker.call(compile_and_measure, folder, self.study.target.name, images, timeout_s=JOB_SECONDS)
        (folder / "timing.json").write_text(json.dumps(timing, indent=1))
        return timing

    def _judged(self, metrics: dict[str, float], when: str = "") -> Result:
        broken = [str(c) for c in self._constraints if c.metric in metrics and c.violation(metrics) > 0]
        return Result("infeasible", metrics, f"{when}breaks {', '.join(broken)}") if broken else Result("scored", metrics)


def _replace(aside: Path, folder: Path) -> None:
    """Puts a finished folder in its place; an older one with the same name goes."""
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)


def space_of(study, dataset, directory: Path) -> Space:
    """The space of a study; the network that its [model] names is read once, and kept in the study's folder."""
    from evaluators.given_network import given_network
    from spaces import given

    head = study.space.head
    if study.model is not None:
        kept = given.copy_from(directory)
        network = kept[0] if kept else given_network(study.model, dataset.shape, len(dataset.classes))
        head = {"blocks": [{"name": "given", "network": network}]}
    return Space.from_tables(study.space.stages, head, study.space.compression, study.space.recipes, len(dataset.classes))


def check_start(space: Space, candidates: list[str]) -> None:
    """SpaceError unless all of a study's [start] are candidates of its space."""
    from spaces.gene import placed
    from spaces.places import picks_of

    with placed("start.candidates"):
        for text in candidates:
            picks_of(space, Candidate.parse(text))


def as_wanted(dataset, model):
    """The data, normalised as the [model] table says. ModelError if it says so of another number of channels."""
    from dataclasses import replace

    import torch

    from evaluators.model import ModelError

    if model is None or not model.mean:
        return dataset
    if len(model.mean) != dataset.shape[0]:
        raise ModelError(f"[model] has {len(model.mean)} numbers as mean, and images have {dataset.shape[0]} channels; give one of each")
    return replace(dataset, mean=255 * torch.tensor(model.mean), std=255 * torch.tensor(model.std))


def environment(threads: int) -> dict[str, str]:
    """Variables of a process that measures on so many threads."""
    return {name: str(threads) for name in ("TVM_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
