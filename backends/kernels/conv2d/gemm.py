"""Convolution in float32 as a register-tiled matrix product: unfolded unless 1x1, any geometry and groups.
"""

from backends.arithmetic import FLOAT
from backends.convolution import product_lowering, tile_options

PRIORITY = 1
options = tile_options


def serves(workload, target) -> bool:
    """Every float32 convolution."""
    return workload["x"].dtype == "float32"


def lower(workload, target, option):
    """See `product_lowering`."""
    return product_lowering(workload, target, option, FLOAT)
