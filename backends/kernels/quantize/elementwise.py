"""Float32 to uint8: multiply, round half to even, shift by the zero point, saturate."""

from backends.elementwise import elementwise, same_or_gate
from backends.emit import cast, clamp, constant
from backends.workload import one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """Every quantise step of images or vectors."""
    return same_or_gate(workload)


def value(arguments: dict, lanes: int, x):
    """uint8 steps. The float is clamped before it becomes an integer, so that huge ones saturate."""
    from tvm import tirx

    zero_point = arguments["zero_point"]
    steps = tirx.nearbyint(x * constant(arguments["inverse_scale"], "float32", lanes))
    steps = clamp(steps, -1.0 - zero_point, 256.0 - zero_point, "float32", lanes)
    steps = cast(steps, "int32", lanes) + constant(zero_point, "int32", lanes)
    return cast(clamp(steps, 0, 255, "int32", lanes), "uint8", lanes)


lower = elementwise(value)
