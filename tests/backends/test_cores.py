"""Threads on cores of their own while kernels are timed."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from backends.cores import apart, cores, fork_join_us
from backends.worker import Worker

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
                                reason="threads are bound on Linux, to two cores at least")


def places() -> dict[int, set[int]]:
    """The cores of every thread of this process."""
    return {int(task.name): os.sched_getaffinity(int(task.name)) for task in Path("/proc/self/task").iterdir()}


def measured_on_two_threads(allowed: list[int]) -> dict:
    """In a process that may use the `allowed` cores, whose thread pool has started: who is where while its threads are
    apart, and where the caller may be afterwards."""
    from backends.target import load

    os.sched_setaffinity(0, allowed)
    fork_join_us(replace(load("local"), threads=2), loops=1, rounds=1)
    with apart(2):
        during, caller = places(), os.sched_getaffinity(0)
    return {"during": during, "caller": caller, "after": cores()}


def test_the_caller_and_the_pool_s_worker_have_a_core_each_of_those_allowed_and_the_caller_is_free_again():
    allowed = sorted(os.sched_getaffinity(0))[-2:]
    worker = Worker({"TVM_NUM_THREADS": "2"})
    try:
        found = worker.call(measured_on_two_threads, allowed, timeout_s=120)
    finally:
        worker.close()
    bound = [place for place in found["during"].values() if len(place) == 1]
    assert found["caller"] == {allowed[0]} and {allowed[0]} in bound and {allowed[1]} in bound
    assert found["after"] == allowed


@pytest.mark.parametrize("threads", [1, 10_000])
def test_one_thread_or_more_than_there_are_cores_stay_where_they_are(threads):
    before = places()
    with apart(threads):
        assert places() == before
