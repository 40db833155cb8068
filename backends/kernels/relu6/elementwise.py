"""The rectifier that ends at 6: min(max(x, 0), 6)."""

from backends.elementwise import elementwise, float_tensors
from backends.emit import clamp
from backends.workload import one_way

PRIORITY = 0
options = one_way
serves = float_tensors


def value(arguments: dict, lanes: int, x):
    """min(max(x, 0), 6)."""
    return clamp(x, 0.0, 6.0, "float32", lanes)


lower = elementwise(value)
