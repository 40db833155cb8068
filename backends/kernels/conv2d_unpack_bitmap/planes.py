"""Convolution in float32 with sparse weights, vectors over pixels: any geometry."""

from backends.sparse_planes import plane_convolution, plane_options, serves_planes

PRIORITY = 1


def serves(workload, target) -> bool:
    """See `serves_planes`."""
    return serves_planes(workload, target)


def options(workload, target) -> list[dict]:
    """See `plane_options`."""
    return plane_options(workload, target)


def lower(workload, target, option):
    """See `plane_convolution`."""
    return plane_convolution(workload, target, option)
