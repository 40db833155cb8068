"""What the candidates of a study learn from: its supernet, its teacher, and where their training is kept."""

import os
import shutil
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from evaluators.pipeline import Lessons, recovery, schedule_of, trained
from evaluators.pipeline import teacher as train_teacher
from evaluators.rungs import Rung, ladder
from spaces.candidate import Candidate
from spaces.space import Space

SUPERNET = "supernet"  # as a teacher's model: the supernet's anchor


class Teachers:
    """Of one study: each is trained when it is first needed, once, and kept in the study's `directory`."""

    def __init__(self, study, space: Space, dataset, directory: Path):
        """study: a study file (search.study_file.StudyFile)."""
        self.study, self.space, self.dataset, self.directory = study, space, dataset, directory
        self.rungs = ladder(study.train)

    def prepare(self) -> None:
        """Trains what the first candidates would otherwise wait for. ModelError if the teacher that the study names cannot be one."""
        if any(rung.inherits for rung in self.rungs):
            _ = self._anchor
        if self.study.teacher is not None and self.study.teacher.model:
            _ = self._teacher

    def trained(self, candidate: Candidate, rung: Rung, seed: int):
        """The candidate's deployed network after the training of a rung, and the seconds that training took."""
        return trained(candidate, rung, self._lessons(candidate, rung), seed)

    def forget(self, name: str) -> None:
        """Drops a training run, a candidate's by its id, that has ended."""
        shutil.rmtree(self._training(name), ignore_errors=True)

    @cached_property
    def supernet(self):
        """What candidates inherit from; kept for other studies of the same space and data, too. None where they are all of one network,
        which has weights."""
        if self.study.model is not None:
            return None
        from evaluators.training.supernet_store import obtain

        study = self.study
        return obtain(self.space, self.dataset, self.supernet_schedule, study.study.seed, study.supernet.shrinking, self.directory)

    @property
    def own(self):
        """The weights of the network that the user has, trained on as the [model] table says; None if there is no such network."""
        return self._anchor.state_dict() if self.study.model is not None else None

    @property
    def supernet_schedule(self):
        """How the supernet is trained."""
        table = self.study.supernet
        schedule = schedule_of(self.study.train, table.epochs, table.learning_rate)
        return replace(schedule, batch=table.batch, optimizer="novograd", weight_decay=0.0)

    def _lessons(self, candidate: Candidate, rung: Rung) -> Lessons:
        teacher = None
        if rung.inherits:
            teacher = self._anchor
        elif any(recipe.needs_teacher for recipe in candidate.recipes):
            teacher = self._teacher
        if not rung.inherits:
            return Lessons(self.dataset, self.study.train, teacher, folder=self._training(candidate.id))
        return Lessons(self.dataset, self.study.train, teacher, self.supernet, self.own, self._recovery, self._training(candidate.id))

    def _training(self, name: str) -> Path:
        """Where a training run is kept until it has ended; a killed one goes on from there."""
        return self.directory / "training" / name

    @cached_property
    def _anchor(self):
        """The supernet's anchor as a network of its own, or the network that the user has; in eval mode."""
        from evaluators.training.supernet import inherit

        if self.study.model is not None:
            return self._adapted()
        return inherit(self.supernet, self.supernet.anchor, self.dataset, self.study.train.batch, self.study.study.seed).eval()

    def _adapted(self):
        """The network that the user has, trained on."""
        from evaluators.pipeline import adapted
        from evaluators.training.supernet import anchor
        from spaces.build import build

        study, network = self.study, build(anchor(self.space), self.dataset.shape)
        return self._once("adapted", network, lambda: adapted(network, self.dataset, study.train, study.model.epochs, study.study.seed,
                                                              self._training("adapted")))

    def _once(self, name: str, network, train):
        """The network in eval mode, with the weights that `train` gave it; kept as <name>.safetensors, so that it is trained once."""
        from safetensors.torch import load_file, save_file

        file = self.directory / f"{name}.safetensors"
        if not file.is_file():
            save_file(train().state_dict(), self.directory / f"{name}.aside")
            os.replace(self.directory / f"{name}.aside", file)
            self.forget(name)
        network.load_state_dict(load_file(file))
        return network.eval()

    @cached_property
    def _recovery(self):
        return recovery(self.dataset, self._anchor, self.study.study.seed)

    @cached_property
    def _teacher(self):
        """The network of the study's [teacher], in eval mode."""
        from evaluators.given_teacher import given

        if self.study.teacher.model == SUPERNET:
            return self._anchor
        return given(self.study.teacher, self.dataset) if self.study.teacher.model else self._trained_teacher()

    def _trained_teacher(self):
        """The [teacher]'s candidate, or several of it with seeds of their own."""
        from evaluators.ensemble import Ensemble

        members = [self._member(number) for number in range(self.study.teacher.members)]
        return members[0] if len(members) == 1 else Ensemble(members).eval()

    def _member(self, number: int):
        """The [teacher]'s candidate."""
        from spaces.build import build

        settings, name = self.study.teacher, f"teacher.{number}"
        return self._once(name, build(Candidate.parse(settings.candidate), self.dataset.shape), lambda: train_teacher(
            settings, self.dataset, self.study.train, self.study.study.seed + number, self._training(name)))
