"""Addition of uint8 tensors of different scales, in int32."""

from backends.elementwise import elementwise, same_or_gate
from backends.epilogue import shifted, steps_from
from backends.workload import one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """Tensors of one shape, or one value a channel."""
    return same_or_gate(workload)


def value(arguments: dict, lanes: int, x, y):
    """uint8 steps."""
    total = steps_from(x, arguments["x_zero_point"], lanes, arguments["x_scale"])
    total = total + steps_from(y, arguments["y_zero_point"], lanes, arguments["y_scale"])
    return shifted(total, arguments["shift"], arguments["zero_point"], (arguments["low"], arguments["high"]), lanes)


lower = elementwise(value)
