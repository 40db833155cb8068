"""Float32 to uint8: divide, round half to even, shift by the zero point, saturate."""

from backends.elementwise import elementwise, same_or_gate
from backends.emit import constant
from backends.epilogue import nearest_steps
from backends.workload import one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """Every quantise step of images or vectors."""
    return same_or_gate(workload)


def value(arguments: dict, lanes: int, x):
    """uint8 steps."""
    return nearest_steps(x / constant(arguments["scale"], "float32", lanes), arguments["zero_point"], lanes)


lower = elementwise(value)
