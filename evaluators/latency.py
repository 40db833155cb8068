"""Latency: the compiled network, verified against its reference and timed whole on the target."""

from evaluators.evaluator import MEASURED


class Latency:
    """Median time of one inference on the target, compiled by TVM, measured whole."""

    METRIC, UNIT, DIRECTION, STAGE = "latency_ms", "ms", "minimize", MEASURED

    def evaluate(self, subject) -> dict[str, float]:
        timing = subject.timing()
        return {self.METRIC: timing["latency_ms"], "latency_low_ms": timing["interval_ms"][0],
                "latency_high_ms": timing["interval_ms"][1]}
