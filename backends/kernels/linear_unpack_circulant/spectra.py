"""Dense layer whose weights are circulant blocks: products of spectra.
"""

from backends.circulant import circulant, serves_circulant
from backends.workload import Lowering, one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """See `serves_circulant`."""
    return serves_circulant(workload)


def lower(workload, target, option) -> Lowering:
    """See `circulant`."""
    return circulant(workload, target)
