"""What `netwright bench axes` compares."""

from pathlib import Path

import pytest

from backends.target import load as target
from search.bench import axes
from search.study_file import load
from spaces.space import Space

ROOT = Path(__file__).parents[2]


def space_of(study) -> Space:
    return Space.from_tables(study.space.stages, study.space.head, study.space.compression, study.space.recipes, 10)


def test_each_axis_alone_leaves_the_other_one_nothing_to_choose():
    found = {name: space_of(study) for name, study in axes.axes(load(ROOT / "studies" / "cifar10.toml")).items()}
    assert list(found) == ["joint", "architecture", "compression"]
    compressions = {name: [choice for choice in space.choices if choice.endswith(".compression")] for name, space in found.items()}
    assert not compressions["architecture"] and compressions["compression"]
    assert set(found["compression"].choices) == set(compressions["compression"])
    widest = found["compression"].sample(lambda name, options: options[0])
    assert str(widest).split() == ["conv:32/2", "fire-squeeze0.5-norm_batch:32/1", "fire-squeeze0.5-norm_batch:32/1",
                                   "fire-squeeze0.5-norm_batch:64/2", "fire-squeeze0.5-norm_batch:64/1", "fire-squeeze0.5-norm_batch:128/2",
                                   "fire-squeeze0.5-norm_batch:128/1", "classifier:10/1"]


@pytest.mark.slow
def test_each_axis_is_searched_for_the_same_time(tmp_path, monkeypatch, capsys):
    for name, value in {"STUDY": ROOT / "studies" / "digits.toml", "FOLDER": tmp_path / "runs", "TIME": "25s"}.items():
        monkeypatch.setattr(axes, name, value)
    found = axes.run(target("local"))
    assert all(found["fronts"].values()) and all(0 <= value <= 1 for value in found["hypervolume"].values())
    assert set(found["unreached"]) <= {row["id"] for row in found["fronts"]["joint"]}
    assert not any("[" in row["candidate"] for row in found["fronts"]["architecture"])
    axes.show(found)
    assert "reached by one axis alone" in capsys.readouterr().out


def test_hypervolumes_are_shares_of_one_box():
    found = axes.hypervolumes({"a": [(0.0, 2.0), (1.0, 1.0)], "b": [(0.5, 0.0), (2.0, 1.0)]})
    assert found == {"a": pytest.approx(0.25), "b": pytest.approx(0.75)}


def test_a_member_is_reached_where_another_axis_has_one_that_is_as_good():
    losses = {"joint": [(0.1, 0.5), (0.3, 0.3), (0.5, 0.2)], "architecture": [(0.1, 0.5)], "compression": [(0.4, 0.2), (0.9, 0.1)]}
    fronts = {"joint": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}
    assert axes._unreached(fronts, losses) == ["b"]
