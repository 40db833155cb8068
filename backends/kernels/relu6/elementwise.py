"""The rectifier that ends at 6: min(max(x, 0), 6)."""

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
    """min(max(x, 0), 6)."""
    return clamp(x, 0.0, 6.0, "float32", lanes)


lower = elementwise(value)
