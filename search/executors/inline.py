"""Runs jobs one after another in this process."""

import time
from collections.abc import Callable

from evaluators.score import Result
from search.controller import Controller, Job


def run(controller: Controller, score: Callable[..., Result], trials: int, seconds: float,
        told: Callable[[Job, Result], None]) -> str:
    """Scores candidates until `trials` are done (earlier runs counted) or the seconds are spent: no job is
    started that would, as long as the mean one so far, end too late.

    `told(job, result)` is called after each job. Returns why it ended: "trials", "time", "space" (nothing new
    to draw) or "interrupted" (Ctrl-C).
    """
    begin, done = time.monotonic(), 0
    try:
        while controller.tally.candidates < trials:
            spent = time.monotonic() - begin
            if spent + spent / max(done, 1) > seconds:
                return "time"
            job = controller.ask()
            if job is None:
                return "space"
            result = score(job.candidate)
            controller.tell(job, result)
            told(job, result)
            done += 1
        return "trials"
    except KeyboardInterrupt:
        return "interrupted"
