"""The logistic function of float32 tensors."""

from backends.elementwise import elementwise
from backends.emit import constant
from backends.workload import Lowering

PRIORITY = 0


def serves(workload, target) -> bool:
    """Every float32 tensor."""
    return workload.out.dtype == "float32"


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def lower(workload, target, option) -> Lowering:
    """The kernel of (x, out): 1 / (1 + exp(-x))."""
    from tvm import tirx

    def value(lanes, x):
        one = constant(1.0, "float32", lanes)
        return one / (one + tirx.exp(constant(0.0, "float32", lanes) - x))
    return elementwise(workload, target, value)
