"""Nested loops by name, in an order that an option chooses, each thread taking its share of one of them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

from backends.emit import loop, loop_between

ORDERS = {"channels": ("channels", "rows", "columns"), "pixels": ("rows", "columns", "channels")}

# Threads share the first of these loops that divides about evenly, or the one that divides best. Pixels come first, so that
# from kernel to kernel a thread goes on with what its own core has computed and still has in its cache.
SHARED_FIRST = ("rows", "columns", "channels")
EVEN = 0.8


@contextmanager
def loop_unless_one(extent: int):
    """`with loop_unless_one(n) as i`: a loop, or just index 0 where there is one turn."""
    if extent == 1:
        yield 0
    else:
        with loop(extent) as i:
            yield i


@dataclass(frozen=True)
class Share:
    """One thread's part of the work: its number, of how many."""

    thread: Any
    threads: int

    def turns(self, extent: int) -> tuple[Any, Any]:
        """Where the thread's turns of a loop begin and end."""
        return self.thread * extent // self.threads, (self.thread + 1) * extent // self.threads


@contextmanager
def shared(threads: int) -> Iterator[Share | None]:
    """`with shared(n) as share`: what is inside runs on n threads at once; None on one."""
    if threads == 1:
        yield None
    else:
        with loop(threads, parallel=True) as thread:
            yield Share(thread, threads)


@contextmanager
def nest(extents: dict[str, int], outer: str, share: Share | None = None) -> Iterator[dict[str, object]]:
    """`with nest({"channels": 4, "rows": 7, "columns": 2}, "pixels", share) as index`: an index by name; no loop where
    there is one turn. A thread takes its share of one loop, which is then outermost."""
    order = list(ORDERS[outer])
    if share:
        order.sort(key=lambda name: (-min(EVEN, _evenness(extents[name], share.threads)), SHARED_FIRST.index(name)))
    with ExitStack() as stack:
        index = {name: 0 for name in order}
        for place, name in enumerate(order):
            if share and place == 0:
                index[name] = stack.enter_context(_part(extents[name], share))
            elif extents[name] > 1:
                index[name] = stack.enter_context(loop(extents[name]))
        yield index


def _part(extent: int, share: Share):
    """The loop over one thread's turns."""
    return loop_between(*share.turns(extent))


def _evenness(extent: int, threads: int) -> float:
    """How evenly a loop divides: its turns over threads times the busiest thread's turns."""
    return extent / (ceil(extent / threads) * threads)
