"""A clamp to [min, max], either of which may be missing."""

from backends.elementwise import elementwise, same_or_gate
from backends.emit import clamp

PRIORITY = 0


def serves(workload, target) -> bool:
    """Float32 tensors of one shape, or one value a channel."""
    return workload.out.dtype == "float32" and same_or_gate(workload)


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def value(arguments: dict, lanes: int, x):
    """min(max(x, min), max)."""
    low, high = arguments.get("min"), arguments.get("max")
    return clamp(x, float("-inf") if low is None else low, float("inf") if high is None else high, "float32", lanes)


lower = elementwise(value)
