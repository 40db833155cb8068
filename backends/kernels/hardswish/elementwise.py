"""h-swish of MobileNetV3 (Howard et al., 2019, equation in section 5.2): x * clamp(x + 3, 0, 6) / 6."""

from backends.elementwise import elementwise, same_or_gate
from backends.emit import clamp, constant

PRIORITY = 0


def serves(workload, target) -> bool:
    """Float32 tensors of one shape, or one value a channel."""
    return workload.out.dtype == "float32" and same_or_gate(workload)


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def value(arguments: dict, lanes: int, x):
    """x * clamp(x + 3, 0, 6) / 6."""
    inside = clamp(x + constant(3.0, "float32", lanes), 0.0, 6.0, "float32", lanes)
    return x * inside * constant(1.0 / 6.0, "float32", lanes)


lower = elementwise(value)
