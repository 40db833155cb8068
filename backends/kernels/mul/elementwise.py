"""Multiplication of float32 tensors, by one factor a channel (squeeze-and-excitation), or by a number."""

from backends.elementwise import elementwise, float_tensors
from backends.emit import constant
from backends.workload import one_way

PRIORITY = 0
options = one_way
serves = float_tensors


def value(arguments: dict, lanes: int, x, *other):
    """x * other."""
    return x * (other[0] if other else constant(arguments["other"], "float32", lanes))


lower = elementwise(value)
