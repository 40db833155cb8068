"""Float32 to uint8: multiply, round half to even, shift by the zero point, saturate."""

from backends.elementwise import elementwise
from backends.emit import cast, clamp, constant
from backends.workload import Lowering

PRIORITY = 0


def serves(workload, target) -> bool:
    """Every quantise step."""
    return True


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def lower(workload, target, option) -> Lowering:
    """The kernel of (x, out). The float is clamped before it becomes an integer, so that huge ones saturate."""
    from tvm import tirx

    zero_point = workload["zero_point"]

    def value(lanes, x):
        steps = tirx.nearbyint(x * constant(workload["inverse_scale"], "float32", lanes))
        steps = clamp(steps, -1.0 - zero_point, 256.0 - zero_point, "float32", lanes)
        steps = cast(steps, "int32", lanes) + constant(zero_point, "int32", lanes)
        return cast(clamp(steps, 0, 255, "int32", lanes), "uint8", lanes)
    return elementwise(workload, target, value)
