"""Dense layer in 8-bit integers on any processor: bytes are widened to int32 and multiplied there.
"""

from backends.arithmetic import WIDENED
from backends.convolution import product_lowering, tile_options

PRIORITY = 1
options = tile_options


def serves(workload, target) -> bool:
    """Every target."""
    return True


def lower(workload, target, option):
    """See `product_lowering`."""
    return product_lowering(workload, target, option, WIDENED)
