"""Progress on standard error: candidates done and failed, the front, the best of each objective, jobs by rung, time left."""

import sys
import time
from statistics import median
from typing import TYPE_CHECKING

from evaluators.score import Result

if TYPE_CHECKING:
    from search.controller import Controller, Job


class Progress:
    """Prints a line a candidate."""

    def __init__(self, controller: "Controller", trials: int, seconds: float):
        self._controller, self._trials = controller, trials
        self._begin, self._seconds = time.monotonic(), seconds
        self._first = controller.tally.candidates

    def __call__(self, job: "Job", result: Result) -> None:
        """Prints the state after a job, and how the job ended."""
        from rich.console import Console

        console = Console(stderr=True, soft_wrap=True, highlight=False)
        outcome = result.status if result.status == "scored" else f"{result.status}: {result.reason}"
        console.print(f"{self.line()} | {job.candidate.id} {outcome}", markup=False)
        sys.stderr.flush()

    def line(self) -> str:
        """Everything in one line."""
        tally, front = self._controller.tally, self._controller.front
        volume = front.hypervolume()
        shown = "" if volume is None else f" hypervolume {volume:.4f}"
        best = " ".join(f"{name} {value:,.6g}" for name, value in self._controller.best.items())
        return (f"{tally.candidates}/{self._trials} candidates, {tally.failed} failed, {tally.infeasible} infeasible,"
                f" {tally.duplicates} known | front {len(front.members)}{shown} | best {best} | {self._rungs()} | {self._left()} left")

    def _rungs(self) -> str:
        """Jobs of each rung so far, and the seconds of a middle one."""
        costs = self._controller.costs
        return ", ".join(f"{len(costs[number])} {rung} at {median(costs[number]):.1f} s"
                         for number, rung in enumerate(self._controller.rungs) if number in costs)

    def _left(self) -> str:
        spent = time.monotonic() - self._begin
        done = self._controller.tally.candidates - self._first
        by_trials = spent / done * (self._trials - self._controller.tally.candidates) if done else self._seconds
        left = max(0, int(min(by_trials, self._seconds - spent)))
        return f"{left // 60}:{left % 60:02d}"
