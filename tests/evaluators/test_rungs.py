"""Rungs: what a candidate inherits from the study's supernet, is compressed and trained on; a supernet is trained once for all studies
of its space and data."""

from pathlib import Path

import pytest
import torch

from evaluators.rungs import ladder
from evaluators.score import Scorer
from evaluators.training import supernet_store
from search.study_file import StudyError, load
from spaces.candidate import Candidate

STUDY = Path(__file__).parents[2] / "studies" / "digits.toml"
CHANGES = ['train.rungs=["inherit", "finetune:12", "full"]', "train.epochs=4", "train.finetune_epochs=1", "supernet.epochs=8",
           'space.compression={"*"=["none", "int8"]}', 'space.stages=[{width=[8, 16], blocks=[{name="conv"}]},'
           ' {layers=[1, 2], width=[16, 24], stride=2, blocks=[{name="fire", norm="batch"}]}]']
CANDIDATE = Candidate.parse("conv:16/1 [*=int8] fire-norm_batch:24/2 [squeeze=int8 expand3x3=magnitude] classifier:10/1 [*=int8]")


def rungs_of(*changes: str) -> list[str]:
    return [str(rung) for rung in ladder(load(STUDY, list(changes)).train)]


def test_rungs_without_a_number_take_the_epochs_of_the_study():
    found = rungs_of('train.rungs=["inherit", "finetune", "full"]', "train.epochs=9", "train.finetune_epochs=3")
    assert found == ["inherit", "finetune:3", "full:9"]


def test_fine_tuning_may_begin_with_compression():
    assert rungs_of('train.rungs=["inherit", "finetune:0", "finetune:2"]') == ["inherit", "finetune:0", "finetune:2"]


@pytest.mark.parametrize("rung", ["full:0", "inherit:0", "finetune:-1", "finetune:", "tune:2"])
def test_what_is_no_rung_is_refused_by_name(rung):
    with pytest.raises(StudyError, match=f"train.rungs: '{rung}' is no rung"):
        rungs_of(f'train.rungs=["{rung}"]')


def test_a_study_without_rungs_trains_every_candidate_in_full():
    assert rungs_of("train.epochs=9") == ["full:9"]


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """The digits on a small space, with a supernet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with Scorer(load(STUDY, CHANGES), tmp_path_factory.mktemp("study")) as opened:
            opened.teachers.prepare()
            yield opened


def test_each_rung_scores_the_same_network_shape_with_more_training(scorer):
    scored = [scorer.score(CANDIDATE, rung) for rung in range(3)]
    assert [result.status for result in scored] == ["scored"] * 3, scored
    inherited, tuned, _ = (result.metrics["accuracy"] for result in scored)
    assert 0.2 < inherited < tuned and tuned > 0.5
    assert len({result.metrics["macs"] for result in scored}) == 1


def test_inheriting_is_the_same_each_time_and_changes_no_shared_weight(scorer):
    before = {name: value.clone() for name, value in scorer.teachers.supernet.state_dict().items()}
    first, second = (scorer.teachers.trained(CANDIDATE, scorer.teachers.rungs[0], 5)[0].state_dict() for _ in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(value, before[name]) for name, value in scorer.teachers.supernet.state_dict().items())


def test_the_supernet_is_kept_with_the_study_and_not_trained_again_by_another(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(supernet_store, "train_supernet", None)
    assert (scorer.directory / "supernet.safetensors").is_file() and not (scorer.directory / "training" / "supernet").exists()
    with Scorer(load(STUDY, [*CHANGES, "study.trials=3"]), tmp_path) as other:
        mine, theirs = (s.teachers.supernet.state_dict() for s in (other, scorer))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert (tmp_path / "supernet.safetensors").is_file()


def test_the_supernet_teaches_where_the_study_says_so(scorer, tmp_path):
    changes = [*CHANGES, 'train.rungs=["full"]', "teacher.model=supernet", "teacher.candidate=''", "teacher.epochs=0"]
    images = scorer.dataset.normalised(scorer.dataset.train.images[:4])
    with Scorer(load(STUDY, changes), tmp_path) as other:
        torch.testing.assert_close(other.teachers._teacher(images), scorer.teachers._anchor(images))


@pytest.mark.parametrize("change", ["supernet.epochs=5", "study.seed=9", 'data.augment=["flip"]',
                                    'space.head={blocks=[{name="conv_classifier"}]}'])
def test_what_a_supernet_was_trained_on_is_its_key(change, scorer, tmp_path):
    with Scorer(load(STUDY, [*CHANGES, change]), tmp_path) as other:
        keys = [supernet_store.key_of(s.space, s.dataset, s.teachers.supernet_schedule, s.study.study.seed, 0.0) for s in (scorer, other)]
    assert keys[0] != keys[1]


def test_a_file_that_is_damaged_or_of_another_supernet_is_not_believed(scorer, tmp_path):
    file, key = tmp_path / "supernet.safetensors", "0" * 64
    supernet_store._write(scorer.teachers.supernet, file, key)
    assert supernet_store._read(file, key, scorer.teachers.supernet) is scorer.teachers.supernet
    assert supernet_store._read(file, "1" * 64, scorer.teachers.supernet) is None
    file.write_bytes(file.read_bytes()[:200])
    assert supernet_store._read(file, key, scorer.teachers.supernet) is None
