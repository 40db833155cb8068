"""Product of uint8 tensors, or of an image and one value a channel, to the nearest step."""

from backends.elementwise import elementwise, same_or_gate
from backends.epilogue import nearest_steps, steps_from
from backends.workload import one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """Tensors of one shape, or one value a channel."""
    return same_or_gate(workload)


def value(arguments: dict, lanes: int, x, y):
    """uint8 steps."""
    product = steps_from(x, arguments["x_zero_point"], lanes) * steps_from(y, arguments["y_zero_point"], lanes)
    return nearest_steps(product, arguments["scale"], arguments["zero_point"], lanes)


lower = elementwise(value)
