"""Weights -1, 0, 1 from two bit planes to int8, code by code: run once, when a network is loaded."""

from backends.codes import Codes, Plane, unpacked
from backends.workload import one_way

PRIORITY = 0
options = one_way
ALONE = True


def codes(unpack) -> Codes:
    """How the op's tensors hold the weights."""
    return Codes((Plane("active", 1), Plane("negative", 1)), (0, 1, 0, -1))


def serves(workload, target) -> bool:
    """Every workload."""
    return True


def lower(workload, target, option):
    """See `unpacked`."""
    return unpacked(workload, codes(workload))
