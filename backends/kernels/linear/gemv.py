"""Dense layer in float32: vectors over outputs, one input broadcast at a time.
"""

from backends.arithmetic import FLOAT
from backends.convolution import product_lowering, tile_options

PRIORITY = 1
options = tile_options


def serves(workload, target) -> bool:
    """Every float32 dense layer."""
    return workload["x"].dtype == "float32"


def lower(workload, target, option):
    """See `product_lowering`."""
    return product_lowering(workload, target, option, FLOAT)
