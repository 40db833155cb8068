"""What `netwright bench sequences` computes, on made-up utterances that take seconds."""

from types import SimpleNamespace

import pytest

from search.bench import sequences
from tests.evaluators import utterances

TARGET = SimpleNamespace(name="local")


@pytest.fixture
def found(tmp_path, monkeypatch):
    """The benchmark's figures, with a made-up time of a frame."""
    utterances.opened(tmp_path)
    monkeypatch.setenv("NETWRIGHT_DATA", str(tmp_path))
    for name, value in {"FOLDER": tmp_path / "runs", "FILE": "spoken.npz", "SEEDS": (0, 1), "EPOCHS": 2,
                        "_latency": lambda target: {"latency_ms": 0.01, "interval_ms": [0.009, 0.011], "shape": [1, 1, 9, 10]}}.items():
        monkeypatch.setattr(sequences, name, value)
    return sequences.run(TARGET)


def test_every_way_has_the_mean_of_its_seeds_and_the_student_is_at_most_a_fifth_of_its_teacher(found):
    assert list(found["ways"]) == ["teacher", "labels", "sequence_teacher"]
    for way in found["ways"].values():
        accuracies = [row["accuracy"] for row in way["seeds"]]
        assert len(accuracies) == 2 and way["mean"] == pytest.approx(sum(accuracies) / 2)
        assert all(accuracy * 20 == pytest.approx(round(accuracy * 20)) for accuracy in accuracies)  # of the test speaker's 20 utterances
    student = (25 * 16 + 32) + (16 * 32 * 9 + 64) + (32 * 9 + 64 + 32 * 64 + 128) + (64 * 10 + 10)
    assert found["ways"]["labels"]["seeds"][0]["parameters"] == found["ways"]["sequence_teacher"]["seeds"][0]["parameters"] == student
    lstm = 2 * (4 * 64 * (40 + 64) + 8 * 64) + 128 * 10 + 10  # of forty bands, as spoken digits have
    assert student <= lstm / 5


def test_errors_are_cut_by_their_share_of_those_by_labels():
    assert sequences._cut({"labels": {"mean": 0.8}, "sequence_teacher": {"mean": 0.85}}) == pytest.approx(0.25)


def test_nothing_is_trained_twice(found, monkeypatch, capsys):
    for name in ("_teacher", "_taught", "_latency"):
        monkeypatch.setattr(sequences, name, lambda *given: pytest.fail("done again"))
    assert sequences.run(TARGET) == found
    sequences.show(found)
    printed = capsys.readouterr().out
    assert "student by sequence_teacher" in printed and "10.0 us (9.0 to 11.0)" in printed
