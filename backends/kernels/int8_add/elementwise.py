"""Addition of uint8 tensors of different scales, by fused products and sums of float32."""

from backends.elementwise import elementwise, same_or_gate
from backends.dot import intrinsic
from backends.emit import cast, constant
from backends.epilogue import nearest_steps
from backends.workload import one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """Tensors of one shape, or one value a channel."""
    return same_or_gate(workload)


def value(arguments: dict, lanes: int, x, y):
    """uint8 steps."""
    total = constant(arguments["offset"], "float32", lanes)
    for number, scale in ((y, arguments["y_scale"]), (x, arguments["x_scale"])):
        total = _fused(cast(number, "float32", lanes), constant(scale, "float32", lanes), total, lanes)
    return nearest_steps(total, 0, lanes, (arguments["low"], arguments["high"]))


def _fused(x, y, z, lanes: int):
    """x * y + z, rounded once."""
    kind, dtype = ("f32", "float32") if lanes == 1 else (f"v{lanes}f32", f"float32x{lanes}")
    return intrinsic(f"llvm.fma.{kind}", dtype, x, y, z)


lower = elementwise(value)
