"""Nested loops by name, in an order that an option chooses, the outermost parallel on several threads."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import ceil

from backends.emit import loop

ORDERS = {"channels": ("channels", "rows", "columns"), "pixels": ("rows", "columns", "channels")}


@contextmanager
def loop_unless_one(extent: int):
    """`with loop_unless_one(n) as i`: a loop, or just index 0 where there is one turn."""
    if extent == 1:
        yield 0
    else:
        with loop(extent) as i:
            yield i


@contextmanager
def nest(extents: dict[str, int], outer: str, threads: int) -> Iterator[dict[str, object]]:
    """`with nest({"channels": 4, "rows": 7, "columns": 2}, "pixels", 1) as index`: an index by name; no loop where
    there is one turn. On several threads the loop that divides best among them is outermost and parallel."""
    order = list(ORDERS[outer])
    if threads > 1:
        order.sort(key=lambda name: -_share(extents[name], threads))
    with ExitStack() as stack:
        index = {name: 0 for name in order}
        for place, name in enumerate(order):
            if extents[name] > 1:
                index[name] = stack.enter_context(loop(extents[name], threads > 1 and place == 0))
        yield index


def _share(extent: int, threads: int) -> float:
    """How evenly a loop divides: its turns over threads times the busiest thread's turns."""
    return extent / (ceil(extent / threads) * threads)
