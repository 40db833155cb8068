"""What `netwright bench rungs` computes, on a study that takes seconds."""

import json
from pathlib import Path

import pytest

from evaluators.teachers import Teachers
from search.bench import rungs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Three candidates of the digits, one epoch a rung, below a folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(rungs, "STUDY", ROOT / "studies" / "digits.toml")
    monkeypatch.setattr(rungs, "FOLDER", tmp_path / "bench")
    monkeypatch.setattr(rungs, "CANDIDATES", 3)
    monkeypatch.setattr(rungs, "RUNGS", ["inherit", "finetune:1", "full"])
    monkeypatch.setattr(rungs, "TRAINING", ["train.epochs=1", "train.finetune_epochs=1", "supernet.epochs=1", 'space.recipes=["none"]'])
    return tmp_path / "bench"


@pytest.mark.slow
def test_every_candidate_has_its_figures_at_every_rung_and_nothing_is_computed_twice(small, capsys, monkeypatch):
    first = rungs.run(None)
    assert len(first["candidates"]) == 3 and first["supernet_seconds"] > 0
    assert all(len(row["full"]) == 2 and row["macs"] > 0 and row["inherit"]["seconds"] > 0 for row in first["candidates"])
    assert set(first["tau"]) == {"inherit", "finetune:1", "macs", "parameters", "one seed, the other"}
    monkeypatch.setattr(Teachers, "trained", None)
    assert rungs.run(None) == first and len((small / "results.jsonl").read_text().splitlines()) == 1 + 3 * 5
    rungs.show(json.loads(json.dumps(first)))
    assert "Kendall's tau" in capsys.readouterr().out


def test_tau_counts_pairs_in_the_same_order_less_those_in_the_other():
    found = rungs._tau([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 3.0])
    assert found["tau"] == pytest.approx((5 - 1) / 6) and found["low"] <= found["tau"] <= found["high"]


def test_a_scatter_plot_has_its_extremes_in_its_corners():
    lines = rungs.scatter([0.1, 0.5, 0.9], [0.2, 0.3, 0.6], "x", "y").splitlines()
    assert lines[1].endswith("o") and lines[rungs.LINES].startswith("  |o") and sum(line.count("o") for line in lines[1:-2]) == 3
