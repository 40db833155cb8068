"""Times taken in turns, on a clock that the runners themselves move."""

import pytest

from evaluators import compare


class Machine:
    """A clock, and runners that are slower for `cold_runs` runs after another one's."""

    def __init__(self, monkeypatch, cold_runs=0):
        self.now_s, self.latest, self.in_a_row, self.cold_runs = 0.0, None, 0, cold_runs
        monkeypatch.setattr(compare.time, "perf_counter", lambda: self.now_s)

    def runner(self, name, warm_ms, cold_ms=0.0):
        def run():
            self.in_a_row = self.in_a_row + 1 if self.latest == name else 1
            self.latest = name
            self.now_s += 1e-3 * (cold_ms if self.in_a_row <= self.cold_runs else warm_ms)
        return run


@pytest.mark.parametrize("warm_ms", [0.02, 0.7, 9.0, 80.0])
def test_a_time_is_that_of_inferences_in_a_row(monkeypatch, warm_ms):
    machine = Machine(monkeypatch, cold_runs=3)
    timings = compare.in_turns({"a": machine.runner("a", warm_ms, 5 * warm_ms), "b": machine.runner("b", 1.0, 20.0)})
    assert timings["a"].summary()["latency_ms"] == pytest.approx(warm_ms)
    assert timings["b"].summary()["latency_ms"] == pytest.approx(1.0)


def test_a_ratio_is_taken_round_by_round(monkeypatch):
    machine = Machine(monkeypatch)
    timings = compare.in_turns({"a": machine.runner("a", 3.0), "b": machine.runner("b", 4.0)}, rounds=5)
    assert len(timings["a"].samples_ms) == 5
    assert timings["a"].ratio(timings["b"]) == {"ratio": pytest.approx(0.75), "ratio_interval": pytest.approx((0.75, 0.75))}
