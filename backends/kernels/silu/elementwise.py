"""SiLU, also called swish: x / (1 + exp(-x))."""

from backends.elementwise import elementwise, float_tensors
from backends.emit import constant
from backends.workload import one_way

PRIORITY = 0
options = one_way
serves = float_tensors


def value(arguments: dict, lanes: int, x):
    """x / (1 + exp(-x))."""
    from tvm import tirx

    return x / (constant(1.0, "float32", lanes) + tirx.exp(constant(0.0, "float32", lanes) - x))


lower = elementwise(value)
