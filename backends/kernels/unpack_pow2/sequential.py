"""Powers of two, sign and exponent in 3 or 4 bits, to int8, code by code: run once, when a network is loaded."""

from backends.codes import Codes, Plane, unpacked
from backends.workload import one_way

PRIORITY = 0
options = one_way
ALONE = True


def codes(unpack) -> Codes:
    """How the op's tensors hold the weights."""
    magnitudes = (0, *(1 << e for e in range((1 << (unpack["bits"] - 1)) - 1)))
    return Codes((Plane("packed", unpack["bits"]),), magnitudes + tuple(-magnitude for magnitude in magnitudes))


def serves(workload, target) -> bool:
    """Every workload."""
    return True


def lower(workload, target, option):
    """See `unpacked`."""
    return unpacked(workload, codes(workload))
