"""Bytes that are really stored: the payload of the candidate's `weights.safetensors`, and of `weights.nw` where layers are
entropy coded.

Values, mask bits, scales, biases, codes and code tables all count. The files' own headers (tensor names, shapes,
offsets) do not; their sizes stand in the card.
"""

from evaluators.evaluator import COUNTED


class StoredBytes:
    """Payload of the stored weights: values, indices, scales, biases, codes and code tables."""

    METRIC, UNIT, DIRECTION, STAGE = "stored_bytes", "B", "minimize", COUNTED

    def evaluate(self, subject) -> dict[str, float]:
        from spaces.huffman import stored_bytes

        tensors = {name: tensor.numpy() for name, tensor in subject.network.state_dict().items()}
        return {self.METRIC: sum(stored_bytes(tensors, subject.coded).values())}
