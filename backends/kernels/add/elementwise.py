"""Addition of float32 tensors, as in a residual, or of a number."""

from backends.elementwise import elementwise, same_or_gate
from backends.emit import constant
from backends.workload import one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """Float32 tensors of one shape, or one value a channel."""
    return dict(workload.arguments).get("alpha", 1) == 1 and workload.out.dtype == "float32" and same_or_gate(workload)


def value(arguments: dict, lanes: int, x, *other):
    """x + other."""
    return x + (other[0] if other else constant(arguments["other"], "float32", lanes))


lower = elementwise(value)
