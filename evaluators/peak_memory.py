"""Peak memory of activations: the most bytes of tensors alive at once during one inference.

A tensor lives from the op that makes it to the last that reads it; an op's inputs and outputs are
alive together. Ops run in the order of the graph. Weights are not counted.
"""

from evaluators.evaluator import COUNTED
from evaluators.program import bytes_of, op_nodes, weight_nodes


class PeakMemory:
    """Most bytes of activations alive at once, inputs and outputs included."""

    METRIC, UNIT, DIRECTION, STAGE = "peak_memory_bytes", "B", "minimize", COUNTED

    def evaluate(self, subject) -> dict[str, float]:
        constant = weight_nodes(subject.program)
        order = [node for node in op_nodes(subject.program) if node not in constant]
        last_use = {tensor: at for at, node in enumerate(order) for tensor in node.all_input_nodes}
        alive, peak = {t for t in last_use if t not in constant and t.op == "placeholder"}, 0
        for at, node in enumerate(order):
            alive.add(node)
            peak = max(peak, sum(map(bytes_of, alive)))
            alive = {tensor for tensor in alive if last_use.get(tensor, -1) > at}
        return {self.METRIC: peak}
