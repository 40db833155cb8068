"""Depthwise convolution in float32, straight from the padded image."""

from backends.convolution import depthwise_lowering, is_depthwise

PRIORITY = 0


def serves(workload, target) -> bool:
    """One input and one output channel a group."""
    return is_depthwise(workload)


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def lower(workload, target, option):
    """See `depthwise_lowering`."""
    return depthwise_lowering(workload, target, "float32")
