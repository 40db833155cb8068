"""The piecewise linear sigmoid of MobileNetV3 (Howard et al., 2019, section 5.2): clamp(x + 3, 0, 6) / 6."""

from backends.elementwise import elementwise, float_tensors
from backends.emit import clamp, constant
from backends.workload import one_way

PRIORITY = 0
options = one_way
serves = float_tensors


def value(arguments: dict, lanes: int, x):
    """clamp(x + 3, 0, 6) / 6."""
    inside = clamp(x + constant(3.0, "float32", lanes), 0.0, 6.0, "float32", lanes)
    return inside * constant(1.0 / 6.0, "float32", lanes)


lower = elementwise(value)
