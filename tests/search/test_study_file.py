"""Study files: what is wrong is named with its place, in one line."""

from pathlib import Path

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from search.storage import create, reopen, toml
from search.study_file import StudyError, load, seconds
from spaces.gene import SpaceError
from tests.search.conftest import TABLES

STUDIES = Path(__file__).parents[2] / "studies"
SHAPES = {"cifar10": (3, 32, 32), "spoken_digits": (1, 9, 40)}


def written(tmp_path, **changes) -> Path:
    """A study file with some tables changed."""
    tables = {**TABLES, **{k: {**TABLES.get(k, {}), **v} for k, v in changes.items()}}
    path = tmp_path / "study.toml"
    path.write_text(tomli_w.dumps(tables))
    return path


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda p: p.stem)
def test_every_study_of_the_project_loads_and_makes_its_space(path):
    from spaces.space import Space

    study = load(path)
    space = Space.from_tables(study.space.stages, study.space.head, study.space.compression, study.space.recipes, 10)
    space.check(SHAPES.get(path.stem, (1, 8, 8)))
    assert len(space.choices) > 10


@pytest.mark.parametrize("changes, words", [
    ({"study": {"objectives": ["acuracy"]}}, ["study.objectives", "'acuracy'", "accuracy, latency_ms"]),
    ({"study": {"constraints": ["energy_mj <= 3"]}}, ["study.constraints", "'energy_mj'", "stored_bytes"]),
    ({"study": {"constraints": ["latency_ms < 3"]}}, ["'latency_ms < 3'", "latency_ms <= 2.0"]),
    ({"study": {"sampler": "magic"}}, ["study.sampler", "'magic'", "nsga2"]),
    ({"study": {"time": "soon"}}, ["'soon'", "15m"]),
    ({"study": {"trials": 0}}, ["study.trials", "1"]),
    ({"study": {"tirals": 5}}, ["tirals", "study"]),
    ({"train": {"epochs": "many"}}, ["train.epochs", "int"]),
    ({"train": {"rungs": ["inherit", "finetune:two"]}}, ["train.rungs", "'finetune:two'", "finetune:2"]),
    ({"train": {"rungs": ["full:2", "inherit"]}}, ["train.rungs", "inherit cannot follow full:2"]),
    ({"train": {"rungs": ["finetune:3", "finetune:2"]}}, ["train.rungs", "finetune:2 cannot follow finetune:3"]),
    ({"train": {"rungs": []}}, ["train.rungs"]),
    ({"data": {"validation": 1.5}}, ["data.validation"]),
    ({"data": {"context": 4}}, ["data.context is 4", "digits", "frames"]),
    ({"data": {"source": "frames", "context": -1}}, ["data.context"]),
    ({"space": {"recipes": ["soft_targets"]}}, ["soft_targets", "[teacher]"]),
    ({"teacher": {"candidate": "fyre:8/1", "epochs": 1}}, ["teacher.candidate", "'fyre'"]),
])
def test_a_mistake_is_named_with_its_place(changes, words, tmp_path):
    with pytest.raises((StudyError, SpaceError)) as caught:
        load(written(tmp_path, **changes))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_set_overrides_by_path(tmp_path):
    study = load(written(tmp_path), ["study.trials=7", "data.path=some/where.zip", "study.constraints=[]"])
    assert (study.study.trials, study.data.path, study.study.constraints) == (7, "some/where.zip", [])


@pytest.mark.parametrize("text", ["trials=7", "study.trials", "study.name.x=3"])
def test_a_bad_override_shows_the_form(text, tmp_path):
    with pytest.raises(StudyError, match="--set"):
        load(written(tmp_path), [text])


@pytest.mark.parametrize("text, expected", [("90s", 90), ("15m", 900), ("2h", 7200), ("1h30m", 5400), ("4m30s", 270)])
def test_durations(text, expected):
    assert seconds(text) == expected


@given(st.text(max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_duration_or_a_study_error(text):
    try:
        assert seconds(text) >= 0
    except StudyError:
        pass


def test_a_directory_keeps_the_study_as_run_and_refuses_a_second_one(tmp_path, study):
    made = create(tmp_path / "out", study)
    assert reopen(tmp_path / "out") == made
    assert made.provenance["format"] == 2 and made.provenance["cores"] >= 1
    with pytest.raises(StudyError, match="netwright resume"):
        create(tmp_path / "out", study)


def test_a_directory_of_another_version_is_refused_and_left_alone(tmp_path, study):
    made = create(tmp_path / "out", study)
    file = tmp_path / "out" / "study.toml"
    file.write_text(toml(made).replace("format = 2", "format = 99"))
    before = file.read_bytes()
    with pytest.raises(StudyError, match=r"was made by netwright .* \(format 99\); this is .* \(format 2\)"):
        reopen(tmp_path / "out")
    assert file.read_bytes() == before
