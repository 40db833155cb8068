"""A clamp to [min, max], either of which may be missing."""

from backends.elementwise import elementwise, float_tensors
from backends.emit import clamp
from backends.workload import one_way

PRIORITY = 0
options = one_way
serves = float_tensors


def value(arguments: dict, lanes: int, x):
    """min(max(x, min), max)."""
    low, high = arguments.get("min"), arguments.get("max")
    return clamp(x, float("-inf") if low is None else low, float("inf") if high is None else high, "float32", lanes)


lower = elementwise(value)
