"""A clamp to [min_val, max_val]; ReLU6 is 0 to 6."""

from backends.elementwise import elementwise, float_tensors
from backends.emit import clamp
from backends.workload import one_way

PRIORITY = 0
options = one_way
serves = float_tensors


def value(arguments: dict, lanes: int, x):
    """min(max(x, min_val), max_val)."""
    low, high = arguments.get("min_val", -1.0), arguments.get("max_val", 1.0)
    return clamp(x, low, high, "float32", lanes)


lower = elementwise(value)
