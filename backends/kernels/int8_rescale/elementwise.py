"""A uint8 tensor with another scale, in int32."""

from backends.elementwise import elementwise, same_or_gate
from backends.epilogue import shifted, steps_from
from backends.workload import one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """Images and vectors."""
    return same_or_gate(workload)


def value(arguments: dict, lanes: int, x):
    """uint8 steps."""
    total = steps_from(x, arguments["x_zero_point"], lanes, arguments["scale"])
    return shifted(total, arguments["shift"], arguments["zero_point"], (arguments["low"], arguments["high"]), lanes)


lower = elementwise(value)
