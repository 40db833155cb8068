"""Signed integers of 2 to 7 bits, two's complement, to int8, code by code: run once, when a network is loaded."""

from backends.codes import Codes, Plane, twos_complement, unpacked
from backends.workload import one_way

PRIORITY = 0
options = one_way
ALONE = True


def codes(unpack) -> Codes:
    """How the op's tensors hold the weights."""
    return Codes((Plane("packed", unpack["bits"]),), twos_complement(unpack["bits"]))


def serves(workload, target) -> bool:
    """Every workload."""
    return True


def lower(workload, target, option):
    """See `unpacked`."""
    return unpacked(workload, codes(workload))
