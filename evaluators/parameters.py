"""Parameters of the deployed network: weights and biases, with batch norms folded away."""

from math import prod

from evaluators.evaluator import COUNTED
from evaluators.program import argument, op_nodes, shape, weight_shape


class Parameters:
    """Weights and biases of the network as built, masked weights included."""

    METRIC, UNIT, DIRECTION, STAGE = "parameters", "", "minimize", COUNTED

    def evaluate(self, subject) -> dict[str, float]:
        return {self.METRIC: sum(map(_parameters, op_nodes(subject.program)))}


def _parameters(node) -> int:
    weight, bias = weight_shape(node), argument(node, "bias")
    return (prod(weight) if weight else 0) + (prod(shape(bias)) if bias is not None else 0)
