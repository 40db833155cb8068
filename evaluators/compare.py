"""Times of one network in several runtimes, taken in turns: each round times every runtime once, so that
whatever slows the machine down slows all of them. Ratios are taken within rounds.

After another's turn a network finds its weights out of the caches and its threads asleep: the first runs of a turn are not
timed, so that a sample is, as in `backends.measure`, of inferences in a row.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from backends.measure import median_interval

SAMPLE_S, ROUNDS, WARM_UP_S = 0.01, 21, 0.3
UNTIMED_RUNS = 3


@dataclass(frozen=True)
class Timing:
    """Samples in milliseconds, one a round."""

    samples_ms: tuple[float, ...]

    def summary(self) -> dict:
        """The median, its 95% interval, and the samples."""
        return {"latency_ms": median(self.samples_ms), "interval_ms": median_interval(self.samples_ms),
                "samples_ms": self.samples_ms}

    def ratio(self, other: "Timing") -> dict:
        """This time over the other's, round by round: the median and its 95% interval."""
        ratios = [mine / theirs for mine, theirs in zip(self.samples_ms, other.samples_ms)]
        return {"ratio": median(ratios), "ratio_interval": median_interval(ratios)}


def in_turns(runners: dict[str, Callable], rounds: int = ROUNDS) -> dict[str, Timing]:
    """Times each runner once a round; a sample is the mean of the runs that fill 10 ms."""
    runs = {name: _warm_up(run) for name, run in runners.items()}
    samples: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(rounds):
        order = list(runners)[turn % len(runners):] + list(runners)[:turn % len(runners)]
        for name in order:
            _seconds(runners[name], UNTIMED_RUNS)
            samples[name].append(1e3 * _seconds(runners[name], runs[name]))
    return {name: Timing(tuple(taken)) for name, taken in samples.items()}


def _warm_up(run: Callable) -> int:
    """Runs for a while; how many runs fill a sample."""
    begin, count = time.perf_counter(), 0
    while count < 3 or time.perf_counter() - begin < WARM_UP_S:
        run()
        count += 1
    return max(1, round(SAMPLE_S / _seconds(run, 3)))


def _seconds(run: Callable, number: int) -> float:
    begin = time.perf_counter()
    for _ in range(number):
        run()
    return (time.perf_counter() - begin) / number
