"""Convolution in float32 as a register-tiled matrix product: unfolded unless 1x1, any geometry and groups."""

from backends.convolution import Arithmetic, multiply_add, product_lowering, tile_options
from backends.packing import tiled
from backends.window import columns

PRIORITY = 1
ARITHMETIC = Arithmetic(lambda image, window, group, lanes: columns(image, window, group, "float32", lanes),
                        "float32", lambda window: window.depth, tiled, "float32", multiply_add)


def serves(workload, target) -> bool:
    """Every float32 convolution."""
    return workload["x"].dtype == "float32"


def options(workload, target) -> list[dict]:
    """See `tile_options`."""
    return tile_options(workload, target)


def lower(workload, target, option):
    """The kernel of (x, packed weight, bias, out)."""
    return product_lowering(workload, target, option, ARITHMETIC)
