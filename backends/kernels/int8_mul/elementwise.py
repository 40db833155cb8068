"""Product of uint8 tensors, or of an image and one value a channel, to the nearest step."""

from backends.elementwise import elementwise, same_or_gate
from backends.emit import constant
from backends.epilogue import nearest_of_sum, real_steps
from backends.workload import one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """Tensors of one shape, or one value a channel."""
    return same_or_gate(workload)


def value(arguments: dict, lanes: int, x, y):
    """uint8 steps."""
    product = real_steps(x, arguments["x_zero_point"], lanes) * real_steps(y, arguments["y_zero_point"], lanes)
    return nearest_of_sum(product * constant(arguments["scale"], "float32", lanes), arguments["zero_point"], lanes)


lower = elementwise(value)
