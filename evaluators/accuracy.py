"""Accuracy of the deployed network, computed with the deployed ops' own arithmetic."""

from evaluators.evaluator import TRAINED


class Accuracy:
    """Share of validation images, or utterances, classified right by the deployed network."""

    METRIC, UNIT, DIRECTION, STAGE = "accuracy", "", "maximize", TRAINED

    def evaluate(self, subject) -> dict[str, float]:
        from evaluators.training.loop import evaluate

        return {self.METRIC: evaluate(subject.network, subject.dataset.validation, subject.dataset)}
