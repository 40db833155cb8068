"""A clamp to [min_val, max_val]; ReLU6 is 0 to 6."""

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
    """min(max(x, min_val), max_val)."""
    low, high = arguments.get("min_val", -1.0), arguments.get("max_val", 1.0)
    return clamp(x, low, high, "float32", lanes)


lower = elementwise(value)
