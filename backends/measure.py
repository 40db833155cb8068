"""Measured latency: samples of whole inferences, and a 95% interval of their median.

One sample is the mean of as many runs as fill `sample_ms`. Samples are taken until the interval is
narrow enough or the budget is spent. The interval is the distribution-free one between order statistics
(Conover, Practical Nonparametric Statistics, 1999, section 3.2). A fixed reference product is timed
before and after: their ratio shows how far the machine drifted meanwhile.
"""

import time
from dataclasses import dataclass
from math import comb
from statistics import median

import numpy as np

from backends.library import Library
from backends.target import MeasurePolicy


@dataclass(frozen=True)
class Measurement:
    """Samples in milliseconds in the order taken; `runs` inferences a sample; `drift`: the reference's time
    after over before."""

    samples_ms: tuple[float, ...]
    runs: int
    drift: float

    @property
    def latency_ms(self) -> float:
        """The median."""
        return median(self.samples_ms)

    @property
    def interval_ms(self) -> tuple[float, float]:
        """The 95% interval of the median."""
        return median_interval(self.samples_ms)


def median_interval(samples) -> tuple[float, float]:
    """Low and high order statistics that hold the median with at least 95% confidence (six samples or more).

    The number of samples below the median is binomial (n, 1/2): at most 2.5% may be cut off on each side.
    """
    ordered, count = sorted(samples), len(samples)
    cut, tail = 0, 1 / 2**count
    while tail <= 0.025 and cut < (count - 1) // 2:
        cut += 1
        tail += comb(count, cut) / 2**count
    low = max(0, cut - 1)
    return ordered[low], ordered[-1 - low]


def measure(library: Library, image: np.ndarray, policy: MeasurePolicy) -> Measurement:
    """Times the library on one input batch by the policy."""
    runs = _warm_up(library, image, policy)
    before, begin, samples = _reference_seconds(), time.perf_counter(), []
    while len(samples) < policy.min_samples or not _enough(samples, policy):
        samples.append(1e3 * library.seconds(image, runs))
        if len(samples) >= policy.max_samples or time.perf_counter() - begin > policy.max_seconds:
            break
    return Measurement(tuple(samples), runs, _reference_seconds() / before)


def _warm_up(library: Library, image: np.ndarray, policy: MeasurePolicy) -> int:
    """Runs until `warmup_ms` have passed; returns how many runs fill a sample."""
    spent, runs = 0.0, 1
    while spent < policy.warmup_ms:
        each = library.seconds(image, runs)
        spent += 1e3 * each * (runs + 1)
        runs = max(1, round(policy.sample_ms / 1e3 / each))
    return runs


def _enough(samples: list[float], policy: MeasurePolicy) -> bool:
    low, high = median_interval(samples)
    return high - low <= policy.relative_interval * median(samples)


def _reference_seconds() -> float:
    """The least time of a fixed product of matrices, in this process, on one thread or as many as NumPy takes."""
    matrix = np.full((192, 192), 0.5, np.float32)
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - begin)
    return min(times)
