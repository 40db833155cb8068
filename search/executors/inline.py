"""Runs jobs one after another in this process."""

import time
from collections.abc import Callable
from statistics import mean

from evaluators.score import Result
from search.controller import Controller, Job
from spaces.candidate import Candidate


def run(controller: Controller, score: Callable[[Candidate, int], Result], trials: int, seconds: float,
        told: Callable[[Job, Result], None]) -> str:
    """Scores candidates until `trials` are done (earlier runs counted) or the seconds are spent: no job is
    started that would, as long as the mean one of its rung so far, end too late.

    `told(job, result)` is called after each job. Returns why it ended: "trials", "time", "space" (nothing new
    to draw) or "interrupted" (Ctrl-C).
    """
    end = time.monotonic() + seconds
    try:
        while controller.tally.candidates < trials:
            begin = time.monotonic()
            if begin + mean(controller.costs.get(controller.next_rung, [0.0])) > end:
                return "time"
            job = controller.ask()
            if job is None:
                return "space"
            result = score(job.candidate, job.rung)
            controller.tell(job, result, time.monotonic() - begin)
            told(job, result)
        return "trials"
    except KeyboardInterrupt:
        return "interrupted"
