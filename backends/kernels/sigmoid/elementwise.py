"""The logistic function of float32 tensors."""

from backends.elementwise import elementwise, float_tensors
from backends.emit import constant
from backends.workload import one_way

PRIORITY = 0
options = one_way
serves = float_tensors


def value(arguments: dict, lanes: int, x):
    """1 / (1 + exp(-x))."""
    from tvm import tirx

    one = constant(1.0, "float32", lanes)
    return one / (one + tirx.exp(constant(0.0, "float32", lanes) - x))


lower = elementwise(value)
