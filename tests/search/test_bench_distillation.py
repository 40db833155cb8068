"""What `netwright bench distillation` computes, on digits and networks that take seconds."""

import json
from types import SimpleNamespace

import pytest
import torch

from evaluators.training.data import open_data
from search.bench import distillation
from search.bench.rungs import Kept
from spaces.build import build
from spaces.candidate import Candidate

STUDENT, WAYS = "conv:8/2 conv:8/1 conv:12/1 classifier:10/1", ("labels", "soft_targets", "hints")


@pytest.fixture
def found(tmp_path, monkeypatch):
    """A student's figures, and a function that finds them again."""
    monkeypatch.setattr(distillation, "EPOCHS", 2)
    monkeypatch.setattr(distillation, "SEEDS", (0, 1))
    digits = open_data(SimpleNamespace(source="digits", path="", validation=0.2, validation_from="train", augment=[]), 0)
    torch.manual_seed(0)
    teacher = build(Candidate.parse("conv:16/2 conv:16/1 conv:24/1 classifier:10/1"), digits.shape).eval()

    def find() -> dict:
        return distillation._student(Kept(tmp_path / "results.jsonl"), digits, teacher, STUDENT, WAYS)
    return find(), find


def test_every_way_has_the_mean_of_its_seeds_and_the_students_own_parameters(found):
    student, _ = found
    for way in WAYS:
        accuracies = [row["accuracy"] for row in student["ways"][way]["seeds"]]
        assert len(accuracies) == 2 and student["ways"][way]["mean"] == pytest.approx(sum(accuracies) / 2)
    assert student["parameters"] == (9 * 8 + 16) + (8 * 8 * 9 + 16) + (8 * 12 * 9 + 24) + (12 * 10 + 10)
    assert len({json.dumps(student["ways"][way]["seeds"][0]["accuracy"]) for way in WAYS}) > 1


def test_nothing_is_trained_twice(found, monkeypatch, capsys):
    student, find = found
    monkeypatch.setattr(distillation, "_taught", lambda *given: pytest.fail("trained again"))
    assert find() == student
    distillation.show({"epochs": 2, "teacher_accuracy": 0.9, "students": {"small": student}})
    assert "soft_targets" in capsys.readouterr().out
