"""Parameters of the deployed network: weights and biases, with batch norms folded away."""

from math import prod

from evaluators.evaluator import COUNTED
from evaluators.program import argument, op_nodes, shape


class Parameters:
    """Weights and biases of the network as built, masked weights included."""

    METRIC, UNIT, DIRECTION, STAGE = "parameters", "", "minimize", COUNTED

    def evaluate(self, subject) -> dict[str, float]:
        tensors = [argument(node, name) for node in op_nodes(subject.program) for name in ("weight", "bias")]
        return {self.METRIC: sum(prod(shape(tensor)) for tensor in tensors if tensor is not None)}
