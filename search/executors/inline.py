"""Runs jobs one after another in this process."""

import time
from collections.abc import Callable

from evaluators.score import Result
from search.controller import Controller, Job


def run(controller: Controller, score: Callable[..., Result], trials: int, seconds: float,
        told: Callable[[Job | None, Result | None], None]) -> str:
    """Scores candidates until `trials` are done (earlier runs counted) or the seconds are spent.

    `told(job, result)` is called before a job, with no result yet, and after it. Returns why it ended:
    "trials", "time", "space" (nothing new to draw) or "interrupted" (Ctrl-C).
    """
    end = time.monotonic() + seconds
    try:
        while controller.tally.candidates < trials:
            if time.monotonic() >= end:
                return "time"
            job = controller.ask()
            if job is None:
                return "space"
            told(job, None)
            result = score(job.candidate)
            controller.tell(job, result)
            told(job, result)
        return "trials"
    except KeyboardInterrupt:
        return "interrupted"
