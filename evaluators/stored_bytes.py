"""Bytes that are really stored: the payload of the candidate's `weights.safetensors`.

Values, mask bits, scales and biases all count. The file's own header (tensor names, shapes,
offsets) does not; its size stands in the card.
"""

from evaluators.evaluator import COUNTED


class StoredBytes:
    """Payload of weights.safetensors: values, indices, scales and biases."""

    METRIC, UNIT, DIRECTION, STAGE = "stored_bytes", "B", "minimize", COUNTED

    def evaluate(self, subject) -> dict[str, float]:
        return {self.METRIC: sum(tensor.nbytes for tensor in subject.network.state_dict().values())}
