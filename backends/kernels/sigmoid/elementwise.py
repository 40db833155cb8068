"""The logistic function of float32 tensors."""

from backends.elementwise import elementwise, same_or_gate
from backends.emit import constant

PRIORITY = 0


def serves(workload, target) -> bool:
    """Float32 tensors of one shape, or one value a channel."""
    return workload.out.dtype == "float32" and same_or_gate(workload)


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def value(arguments: dict, lanes: int, x):
    """1 / (1 + exp(-x))."""
    from tvm import tirx

    one = constant(1.0, "float32", lanes)
    return one / (one + tirx.exp(constant(0.0, "float32", lanes) - x))


lower = elementwise(value)
