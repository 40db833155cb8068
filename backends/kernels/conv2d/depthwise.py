"""Depthwise convolution in float32, straight from the padded image, vectors along rows.

It is bound by memory, so nothing is unfolded and weights are not packed.
"""

from backends.convolution import depthwise_body
from backends.emit import function
from backends.workload import Lowering

PRIORITY = 0


def serves(workload, target) -> bool:
    """One input and one output channel a group."""
    return workload["weight"].shape[1] == 1 and workload["groups"] == workload["weight"].shape[0]


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def lower(workload, target, option) -> Lowering:
    """The kernel of (x, weight, bias, out)."""
    tensors = [tensor for _, tensor in workload.tensors]
    return Lowering(function([*tensors, workload.out], depthwise_body(workload, target, "float32")))
