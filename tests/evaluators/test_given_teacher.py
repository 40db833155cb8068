"""A teacher may be any network that the user has: it sees pixels as it was trained to, in batches of any size."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.given_teacher import given
from evaluators.model import ModelError
from evaluators.pipeline import untrained
from evaluators.score import Scorer
from evaluators.subject import export_program
from evaluators.training.data import open_data
from search.study_file import StudyError, load
from spaces.candidate import Candidate
from spaces.gene import SpaceError, parse
from spaces.recipe import Run

STUDY = Path(__file__).parents[2] / "studies" / "digits.toml"
EARLIER = Candidate.parse("conv:8/1 [*=int8] mbconv-expand2-se0.25:8/1 [expand=magnitude] fire-norm_batch:16/2 classifier:10/1 [*=int8]")


@pytest.fixture(scope="module")
def digits():
    return open_data(load(STUDY).data, 0)


def settings(model: str, mean=(), std=()) -> SimpleNamespace:
    return SimpleNamespace(model=model, mean=mean, std=std)


def own() -> nn.Module:
    """A network of a user's own, a function of this module."""
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 10))


class Flattening(nn.Module):
    """What many write: the batch's size becomes a number in the program of one image."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(6)
        self.layer, self.dense = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 10)

    def forward(self, x):
        x = self.layer(x)
        return self.dense(x.view(x.size(0), -1))


def of_nine_classes() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9))


def test_a_candidate_of_an_earlier_study_teaches_batches(digits, tmp_path):
    network = untrained(EARLIER, digits, load(STUDY).train)
    torch.export.save(export_program(network, digits), tmp_path / "model.pt2")
    images = digits.normalised(digits.train.images[:7])
    torch.testing.assert_close(given(settings(str(tmp_path / "model.pt2")), digits)(images), network(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["pt2", "open batch, pt2", "onnx"])
def test_a_file_teaches_batches_however_it_was_exported(form, digits, tmp_path):
    network, image, file = Flattening().eval(), torch.zeros(1, 1, 8, 8), tmp_path / f"model.{form[-4:].strip(', ')}"
    if form == "onnx":
        torch.onnx.export(network, (image,), file, dynamo=True, verbose=False)
    else:
        several, dims = (image, None) if form == "pt2" else (image.repeat(2, 1, 1, 1), ({0: torch.export.Dim("batch")},))
        torch.export.save(torch.export.export(network, (several,), dynamic_shapes=dims), file)
    images = digits.normalised(digits.train.images[:7])
    torch.testing.assert_close(given(settings(str(file)), digits)(images), network(images), rtol=1e-4, atol=1e-4)


def test_recipes_that_watch_layers_say_that_a_program_has_none(digits, tmp_path):
    torch.export.save(torch.export.export(own().eval(), (torch.zeros(1, 1, 8, 8),)), tmp_path / "model.pt2")
    teacher = given(settings(str(tmp_path / "model.pt2")), digits)
    run = Run(own(), teacher, digits.normalised(digits.train.images[:16]), 5, 5, digits.train.labels[:16])
    for recipe in ("hints-stage0.5", "neuron_selection-stage0.5"):
        with pytest.raises(SpaceError, match="can be watched"):
            parse("recipes", recipe).hooks(run)


def test_a_network_of_ones_own_sees_pixels_as_it_was_trained_to(digits):
    teacher = given(settings(f"{__name__}:own", mean=(0.3,), std=(0.7,)), digits)
    pixels = digits.train.images[:5].numpy().astype(np.float64) / 255
    expected = own()(torch.from_numpy(((pixels - 0.3) / 0.7).astype(np.float32)))
    torch.testing.assert_close(teacher(digits.normalised(digits.train.images[:5])), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model, mean, said", [
    ("resnet20@32", (), "3x32x32, and the data has 1x8x8"), (f"{__name__}:of_nine_classes", (), "10 classes"),
    (f"{__name__}:own", (0.1, 0.2, 0.3), "3 numbers as mean"), ("nothing.pt2", (), "no such file")])
def test_a_network_that_does_not_fit_the_data_is_refused_in_one_line(model, mean, said, digits):
    with pytest.raises(ModelError, match=said):
        given(settings(model, mean, mean), digits)


@pytest.mark.parametrize("recipe", ["soft_targets", "hints-stage0.5"])
def test_candidates_of_a_study_learn_from_it(recipe, tmp_path):
    changes = [f"teacher.model={__name__}:own", "teacher.candidate=''", "teacher.epochs=0", "train.epochs=2",
               "train.finetune_epochs=1", f'space.recipes=["{recipe}"]']
    with Scorer(load(STUDY, changes), tmp_path) as scorer:
        scorer.teachers.prepare()
        result = scorer.score(Candidate.parse(f"conv:8/2 conv:8/1 conv:12/1 classifier:10/1 | {recipe}"))
    assert result.status == "scored", result.reason


def test_members_of_an_ensemble_are_trained_with_seeds_of_their_own_and_kept(digits, tmp_path):
    changes = ["teacher.members=2", "teacher.epochs=1", 'space.recipes=["ensemble_mimic"]']
    images = digits.normalised(digits.train.images[:4])
    with Scorer(load(STUDY, changes), tmp_path) as scorer:
        together = scorer.teachers._teacher(images)
        members = [scorer.teachers._member(number)(images) for number in range(2)]
    torch.testing.assert_close(together, (members[0] + members[1]) / 2)
    assert not torch.allclose(*members) and (tmp_path / "teacher.1.safetensors").is_file()


@pytest.mark.parametrize("changes", [
    {"epochs": 0}, {"candidate": "''"}, {"model": "'a.pt2'"}, {"candidate": "''", "model": "'a.pt2'"},
    {"candidate": "''", "epochs": 0, "model": "'a.pt2'", "mean": [0.1]}])
def test_a_table_that_names_no_teacher_or_two_is_refused(changes):
    with pytest.raises(StudyError, match=r"\[teacher\]"):
        load(STUDY, [f"teacher.{key}={value}" for key, value in changes.items()])
