"""The controller: asks the sampler for candidates, tells it their worth, keeps the front.

One Optuna trial is one draw. A draw that decodes to a known candidate is answered from what is known
and costs nothing. Trials carry the candidate's text, status, reason and `rung.0.<metric>` as
attributes. All trials are read once, when the controller opens; in the loop it keeps its own tables.
"""

import warnings
from dataclasses import dataclass, field

from evaluators.constraint import Constraint
from evaluators.evaluator import metrics
from evaluators.score import Result
from search.pareto import Front, losses
from search.study_file import StudyFile
from spaces.candidate import Candidate
from spaces.space import Space

DUPLICATES_IN_A_ROW = 200


@dataclass(frozen=True)
class Job:
    """One candidate to score, for the trial `number`."""

    number: int
    candidate: Candidate
    rung: int = 0


@dataclass
class Tally:
    """How many candidates ended how, and how many draws were known already."""

    scored: int = 0
    infeasible: int = 0
    failed: int = 0
    duplicates: int = 0

    @property
    def candidates(self) -> int:
        """Distinct candidates that are done."""
        return self.scored + self.infeasible + self.failed


@dataclass
class Controller:
    """Ask and tell over one Optuna study. `storage` is an Optuna storage."""

    space: Space
    study_file: StudyFile
    storage: object
    front: Front = field(default_factory=Front)
    tally: Tally = field(default_factory=Tally)
    best: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        import optuna
        from optuna.distributions import CategoricalDistribution

        from search import sampling

        table = self.study_file.study
        self.objectives = table.objectives
        self._directions = [metrics()[name].direction for name in self.objectives]
        self._constraints = [Constraint.parse(text) for text in table.constraints]
        self._distributions = {n: CategoricalDistribution(o) for n, o in self.space.choices.items()}
        self._known: dict[str, Result] = {}
        self._trials: dict[int, optuna.Trial] = {}
        self._study = optuna.create_study(storage=self.storage, study_name=table.name,
                                          directions=self._directions, load_if_exists=True)
        done = self._study.get_trials(deepcopy=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names(self.objectives)
        self._study.sampler = sampling.make(table.sampler, table.seed + len(done))
        for trial in done:
            self._recall(trial)

    def ask(self) -> Job | None:
        """The next unknown candidate; None when 200 draws in a row gave none."""
        for _ in range(DUPLICATES_IN_A_ROW):
            trial = self._study.ask(self._distributions)
            candidate = self.space.decode(trial.params)
            trial.set_user_attr("candidate", str(candidate))
            if str(candidate) not in self._known:
                self._trials[trial.number] = trial
                return Job(trial.number, candidate)
            trial.set_user_attr("duplicate_of", candidate.id)
            self.tally.duplicates += 1
            self._finish(trial, self._known[str(candidate)])
        return None

    def tell(self, job: Job, result: Result) -> None:
        """Records a job's result, once."""
        trial = self._trials.pop(job.number)
        self._finish(trial, result)
        self._note(str(job.candidate), result)

    def set_final(self, identity: str, figures: dict) -> None:
        """Stores the figures to report of a front member, as the study attribute `final.<id>`."""
        self._study.set_user_attr(f"final.{identity}", figures)

    def _finish(self, trial, result: Result) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr("status", result.status)
        if result.reason:
            trial.set_user_attr("reason", result.reason)
        for name, value in result.metrics.items():
            trial.set_user_attr(f"rung.0.{name}", value)
        for constraint in self._constraints:
            if constraint.metric in result.metrics:
                trial.set_constraint(str(constraint), constraint.violation(result.metrics))
        values = [result.metrics.get(name) for name in self.objectives]
        if None in values:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, values)

    def _note(self, text: str, result: Result) -> None:
        """Enters a result into the tables."""
        self._known[text] = result
        setattr(self.tally, result.status, getattr(self.tally, result.status) + 1)
        if result.status == "scored":
            values = [result.metrics[name] for name in self.objectives]
            self.front.add(text, losses(values, self._directions))
            for name, value, direction in zip(self.objectives, values, self._directions):
                better = max if direction == "maximize" else min
                self.best[name] = better(self.best.get(name, value), value)

    def _recall(self, trial) -> None:
        """Enters an earlier run's trial; one that was in flight is queued again, once."""
        from optuna.trial import TrialState

        if trial.state == TrialState.RUNNING:
            self.storage.set_trial_user_attr(trial._trial_id, "status", "interrupted")
            self._study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                self._study.enqueue_trial(trial.params, user_attrs={"requeued_from": trial.number})
        elif "duplicate_of" in trial.user_attrs:
            self.tally.duplicates += 1
        elif trial.user_attrs.get("status") in ("scored", "infeasible", "failed"):
            self._note(trial.user_attrs["candidate"], recorded(trial))


def recorded(trial) -> Result:
    """The result that a finished trial carries."""
    attributes = trial.user_attrs
    found = {k.removeprefix("rung.0."): v for k, v in attributes.items() if k.startswith("rung.0.")}
    return Result(attributes["status"], found, attributes.get("reason", ""))
