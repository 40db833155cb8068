"""Circulant blocks from their first columns: run once, when a network is loaded."""

from backends.circulant import unpack_blocks
from backends.workload import Lowering, one_way

PRIORITY = 0
options = one_way
ALONE = True


def serves(workload, target) -> bool:
    """Values of any type."""
    return True


def lower(workload, target, option) -> Lowering:
    """See `unpack_blocks`."""
    return unpack_blocks(workload)
