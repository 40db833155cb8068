"""3x3 convolution in float32 by minimal filtering, F(2x2, 3x3) and F(4x4, 3x3) (Lavin and Gray, 2016)."""

from backends.winograd import serves_winograd, winograd, winograd_options

PRIORITY = 2


def serves(workload, target) -> bool:
    """See `serves_winograd`."""
    return serves_winograd(workload)


def options(workload, target) -> list[dict]:
    """See `winograd_options`."""
    return winograd_options(workload, target)


def lower(workload, target, option):
    """See `winograd`."""
    return winograd(workload, target, option)
