"""The controller: asks the sampler for candidates, tells it their worth, keeps the front.

One Optuna trial is one draw. A draw that decodes to a known candidate is answered from what is known
and costs nothing. A candidate begins at the lowest rung; the better ones go on to the next, and the trial is told once, at the last
rung that it reached. Trials carry the candidate's text, status, reason, `rung` and `rung.<n>.<metric>` as attributes. All trials are
read once, when the controller opens; in the loop it keeps its own tables.
"""

import warnings
from dataclasses import dataclass, field

from evaluators.constraint import Constraint
from evaluators.evaluator import metrics
from evaluators.rungs import ladder
from evaluators.score import Result
from search.ladder import Ladder, share_of
from search.pareto import Front, losses
from search.study_file import StudyFile
from spaces.candidate import Candidate
from spaces.places import picks_of
from spaces.space import Space

DUPLICATES_IN_A_ROW = 200


@dataclass(frozen=True)
class Job:
    """One candidate to score at a rung, for the trial `number`."""

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
    """Ask and tell over one Optuna study. `storage` is an Optuna storage; `front` and `best`: of the candidates at the highest rung
    that one has reached; `costs`: seconds of the jobs so far, by rung."""

    space: Space
    study_file: StudyFile
    storage: object
    front: Front = field(default_factory=Front)
    tally: Tally = field(default_factory=Tally)
    best: dict[str, float] = field(default_factory=dict)
    costs: dict[int, list[float]] = field(default_factory=dict)

    def __post_init__(self):
        import optuna
        from optuna.distributions import CategoricalDistribution

        from search import sampling

        table = self.study_file.study
        self.objectives = table.objectives
        self._directions = [metrics()[name].direction for name in self.objectives]
        self._constraints = [Constraint.parse(text) for text in table.constraints]
        self._distributions = {n: CategoricalDistribution(o) for n, o in self.space.choices.items()}
        self._known: dict[str, tuple[int, Result]] = {}
        self.rungs = ladder(self.study_file.train)
        self._last, self._top, self._ladder = len(self.rungs) - 1, 0, Ladder()
        self._waiting: list[Job] = []
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
        if not done:
            for text in self.study_file.start.candidates:
                self._study.enqueue_trial(picks_of(self.space, Candidate.parse(text)))

    @property
    def next_rung(self) -> int:
        """The rung of the next job."""
        return self._waiting[0].rung if self._waiting else 0

    def ask(self) -> Job | None:
        """A candidate that goes on, or the next unknown one; None when 200 draws in a row gave none."""
        if self._waiting:
            return self._waiting.pop(0)
        for _ in range(DUPLICATES_IN_A_ROW):
            trial = self._study.ask(self._distributions)
            candidate = self.space.decode(trial.params)
            trial.set_user_attr("candidate", str(candidate))
            if str(candidate) not in self._known:
                self._trials[trial.number] = trial
                return Job(trial.number, candidate, trial.user_attrs.get("goes_on_to", 0))
            trial.set_user_attr("duplicate_of", candidate.id)
            self.tally.duplicates += 1
            self._finish(trial, *self._known[str(candidate)])
        return None

    def tell(self, job: Job, result: Result, seconds: float) -> None:
        """Records a job's result, once, and the seconds it took."""
        self.costs.setdefault(job.rung, []).append(seconds)
        if self._goes_on(job.rung, result):
            self._write(self._trials[job.number], job.rung, result, seconds)
            self._trials[job.number].set_user_attr("goes_on_to", job.rung + 1)
            self._waiting.append(Job(job.number, job.candidate, job.rung + 1))
            return
        trial = self._trials.pop(job.number)
        self._write(trial, job.rung, result, seconds)
        self._finish(trial, job.rung, result)
        self._note(str(job.candidate), job.rung, result)

    def set_final(self, identity: str, figures: dict) -> None:
        """Stores the figures to report of a front member, as the study attribute `final.<id>`."""
        self._study.set_user_attr(f"final.{identity}", figures)

    def _goes_on(self, rung: int, result: Result) -> bool:
        """Whether a result is good enough for the next rung; notes it for those that come."""
        if result.status != "scored" or rung == self._last:
            return False
        return self._ladder.enter(rung, self._losses(result), share_of(self.costs, rung))

    def _losses(self, result: Result) -> tuple[float, ...]:
        return losses([result.metrics[name] for name in self.objectives], self._directions)

    def _write(self, trial, rung: int, result: Result, seconds: float) -> None:
        """Puts the figures of a rung down."""
        for name, value in {**result.metrics, "seconds": seconds}.items():
            trial.set_user_attr(f"rung.{rung}.{name}", value)

    def _finish(self, trial, rung: int, result: Result) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr("status", result.status)
        trial.set_user_attr("rung", rung)
        if result.reason:
            trial.set_user_attr("reason", result.reason)
        for constraint in self._constraints:
            if constraint.metric in result.metrics:
                trial.set_constraint(str(constraint), constraint.violation(result.metrics))
        values = [result.metrics.get(name) for name in self.objectives]
        if None in values:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, values)

    def _note(self, text: str, rung: int, result: Result) -> None:
        """Enters a candidate that is done into the tables."""
        self._known[text] = rung, result
        setattr(self.tally, result.status, getattr(self.tally, result.status) + 1)
        if result.status != "scored" or rung < self._top:
            return
        if rung > self._top:
            self.front, self.best, self._top = Front(), {}, rung
        self.front.add(text, self._losses(result))
        for name, direction in zip(self.objectives, self._directions):
            better, value = max if direction == "maximize" else min, result.metrics[name]
            self.best[name] = better(self.best.get(name, value), value)

    def _recall(self, trial) -> None:
        """Enters an earlier run's trial; one that was in flight is queued again, once."""
        from optuna.trial import TrialState

        if trial.state == TrialState.RUNNING:
            self.storage.set_trial_user_attr(trial._trial_id, "status", "interrupted")
            self._study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                self._study.enqueue_trial(trial.params, user_attrs={"requeued_from": trial.number, **_before(trial.user_attrs)})
        elif "duplicate_of" in trial.user_attrs:
            self.tally.duplicates += 1
        elif trial.user_attrs.get("status") in ("scored", "infeasible", "failed"):
            self._recall_costs(trial)
            self._note(trial.user_attrs["candidate"], trial.user_attrs["rung"], recorded(trial))

    def _recall_costs(self, trial) -> None:
        reached, scored = trial.user_attrs["rung"], trial.user_attrs["status"] == "scored"
        for rung, figures in sorted(_by_rung(trial.user_attrs).items()):
            self.costs.setdefault(rung, []).append(figures["seconds"])
            if rung < reached or scored:
                self._goes_on(rung, Result("scored", figures))


def recorded(trial) -> Result:
    """The result that a finished trial carries: that of the last rung it reached."""
    attributes = trial.user_attrs
    return Result(attributes["status"], _by_rung(attributes).get(attributes["rung"], {}), attributes.get("reason", ""))


def _before(attributes: dict) -> dict:
    """What a trial that was in flight takes along: the rung that it goes on to, and the figures of those below."""
    rung = attributes.get("goes_on_to", 0)
    below = {f"rung.{n}.{name}": value for n, figures in _by_rung(attributes).items() if n < rung for name, value in figures.items()}
    return {"goes_on_to": rung, **below}


def _by_rung(attributes: dict) -> dict[int, dict[str, float]]:
    """The figures of each rung in a trial's attributes."""
    found: dict[int, dict[str, float]] = {}
    for key, value in attributes.items():
        prefix, _, rest = key.partition(".")
        if prefix == "rung" and rest:
            rung, _, name = rest.partition(".")
            found.setdefault(int(rung), {})[name] = value
    return found
