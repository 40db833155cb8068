"""The cores that this process may use, and threads on cores of their own while kernels are timed.

TVM binds its worker threads to the machine's first cores, whatever this process may use, and lets the calling thread
roam. Where that one meets a worker on a core, each waits for the other by giving way, and the system may leave them
there for a second, at half speed, while another core idles.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

# TVM's AffinityMode: workers on cores of their own of those given, from the second on.
ONE_CORE_PER_THREAD = -2
LINE = 32  # float32 numbers on two cache lines: threads that write so far apart are not in each other's way


def cores() -> list[int]:
    """The numbers of the cores that the calling thread may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


@contextmanager
def apart(threads: int) -> Iterator[None]:
    """While it lasts, the calling thread and TVM's workers have a core each. Nothing changes on one thread, with fewer
    cores than threads, or where the system cannot bind threads. Threads started meanwhile share the caller's core."""
    mine = cores()
    if threads == 1 or len(mine) < threads or not hasattr(os, "sched_setaffinity"):
        yield
        return
    _bind_workers(mine[:threads])
    os.sched_setaffinity(0, mine[:1])
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def fork_join_us(target, loops: int = 100, rounds: int = 15) -> float:
    """The median time in microseconds in which TVM's threads, awake, begin and end an empty shared loop. It tells how far apart
    their cores are: those of a virtual machine may share a cache at one time and none at another."""
    import tvm
    from backends.codegen import loaded
    from backends.emit import function, loop, store
    from backends.workload import Tensor

    def shares(out):
        for _ in range(loops):
            with loop(target.threads, parallel=True) as thread:
                store(out, 1.0, thread * LINE)

    out = Tensor((target.threads * LINE,), "float32")
    run, memory = loaded({"shares": function([out], shares)}, target)["shares"]["shares"], tvm.runtime.empty(out.shape, out.dtype)
    return 1e6 * median([_seconds(run, memory) for _ in range(rounds)]) / loops


def _seconds(run, *arguments) -> float:
    begin = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - begin


def _bind_workers(chosen: list[int]) -> None:
    import tvm

    tvm.get_global_func("runtime.config_threadpool")(ONE_CORE_PER_THREAD, len(chosen), [str(core) for core in chosen])
