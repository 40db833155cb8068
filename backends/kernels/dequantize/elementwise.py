"""uint8 to float32: less the zero point, times the scale."""

from backends.elementwise import elementwise, same_or_gate
from backends.emit import constant
from backends.epilogue import real_steps
from backends.workload import one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """Images and vectors."""
    return same_or_gate(workload)


def value(arguments: dict, lanes: int, x):
    """float32."""
    return real_steps(x, arguments["zero_point"], lanes) * constant(arguments["scale"], "float32", lanes)


lower = elementwise(value)
