"""Multiply-accumulate operations of one inference, counted from the deployed network's shapes."""

from math import prod

from evaluators.evaluator import COUNTED
from evaluators.program import argument, op_nodes, shape


class Macs:
    """Multiply-accumulates of one image through the network as built, zeros included."""

    METRIC, UNIT, DIRECTION, STAGE = "macs", "", "minimize", COUNTED

    def evaluate(self, subject) -> dict[str, float]:
        return {self.METRIC: sum(map(node_macs, op_nodes(subject.program)))}


def node_macs(node) -> int:
    """Every output of an op with weights sums over one output channel's weights."""
    weight = argument(node, "weight")
    return prod(shape(node)[1:]) * prod(shape(weight)[1:]) if weight is not None else 0
