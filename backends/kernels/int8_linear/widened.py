"""Dense layer in 8-bit integers on any processor: bytes are widened to int32 and multiplied there."""

from backends.convolution import Arithmetic, multiply_add, product_lowering, tile_options
from backends.emit import cast
from backends.packing import tiled
from backends.window import columns

PRIORITY = 1
ARITHMETIC = Arithmetic(lambda image, window, group, lanes: columns(image, window, group, "uint8", lanes),
                        "uint8", lambda window: window.depth, tiled, "int32", multiply_add,
                        lambda value, lanes: cast(value, "int32", lanes))


def serves(workload, target) -> bool:
    """Every target."""
    return True


def options(workload, target) -> list[dict]:
    """See `tile_options`."""
    return tile_options(workload, target)


def lower(workload, target, option):
    """The kernel of (x, packed weight, bias, scale, shift, out)."""
    return product_lowering(workload, target, option, ARITHMETIC)
