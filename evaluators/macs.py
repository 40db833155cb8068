"""Multiply-accumulate operations of one inference, counted from the deployed network's shapes."""

from math import prod

from evaluators.evaluator import COUNTED
from evaluators.program import op_nodes, shape, weight_shape


class Macs:
    """Multiply-accumulates of one image through the network as built, zeros included."""

    METRIC, UNIT, DIRECTION, STAGE = "macs", "", "minimize", COUNTED

    def evaluate(self, subject) -> dict[str, float]:
        return {self.METRIC: sum(map(node_macs, op_nodes(subject.program)))}


def node_macs(node) -> int:
    """Every output of an op with weights sums over one output channel's weights."""
    weight = weight_shape(node)
    return prod(shape(node)[1:]) * prod(weight[1:]) if weight else 0
