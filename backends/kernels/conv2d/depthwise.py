"""Depthwise convolution in float32: vectors over channels, straight from the image."""

from backends.depthwise import depthwise, depthwise_options, is_depthwise

PRIORITY = 0


def serves(workload, target) -> bool:
    """One input and one output channel a group."""
    return is_depthwise(workload)


def options(workload, target) -> list[dict]:
    """See `depthwise_options`."""
    return depthwise_options(workload, target)


def lower(workload, target, option):
    """See `depthwise`."""
    return depthwise(workload, target, option, "float32")
