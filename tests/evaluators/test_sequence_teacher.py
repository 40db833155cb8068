"""The recurrent teacher of windows: its loss, its alignment with them, and runs that go on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluators.training import checkpoint as checkpoints
from evaluators.training.checkpoint import Checkpoint
from evaluators.training.loop import evaluate, train
from evaluators.training.schedule import Schedule
from spaces.build import build
from spaces.candidate import Candidate
from spaces.gene import SpaceError, parse
from spaces.recipe import Batch, Run
from spaces.recipes import sequence_teacher
from spaces.recipes.sequence_teacher import log_posteriors
from spaces.space import Space
from tests.evaluators import utterances
from tests.evaluators.test_training_runs import Given, Recording
from tests.evaluators.utterances import CONTEXT, FRAMES

SCHEDULE, CPU, GIVEN = Schedule(epochs=3, batch=64, learning_rate=0.1, weight_decay=0.0), torch.device("cpu"), utterances.arrays()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    return utterances.opened(tmp_path_factory.mktemp("spoken"))


def network(spoken, seed: int = 0):
    torch.manual_seed(seed)
    return build(Candidate.parse("conv:16/2 conv:32/2 conv:32/2 classifier:10/1"), spoken.shape)


def run_on(spoken) -> Run:
    return Run(None, None, spoken.normalised(spoken.train.images[:2]), 1, 1, sequences=spoken.sequences)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_loss_is_the_divergence_from_the_teacher_and_a_share_of_the_cross_entropy(share):
    rng = np.random.default_rng(0)
    p, logits, labels = rng.dirichlet(np.ones(5), 6), rng.standard_normal((6, 5)), rng.integers(0, 5, 6)
    expected = 0.0
    for teacher, z, label in zip(p, logits, labels):
        q = np.exp(z) / np.exp(z).sum()
        expected += ((1 - share) * sum(t * np.log(t / s) for t, s in zip(teacher, q)) - share * np.log(q[label])) / 6
    batch = Batch(torch.from_numpy(labels), torch.from_numpy(logits))
    loss = parse("recipes", f"sequence_teacher-labels{share:g}").loss(batch, torch.from_numpy(np.log(p)))
    assert float(loss) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_a_window_learns_from_the_teacher_s_step_at_its_middle_frame_and_no_other(off, spoken):
    """Which frame that is, is found in the file by the bytes of the window's middle row, all of which differ."""
    part = spoken.part(200, 1)
    seen = GIVEN["x"][GIVEN["speaker"] < GIVEN["speaker"].max()].astype(np.float32)
    known = np.rint((GIVEN["x"].astype(np.float32) - seen.min()) * (255 / (seen.max() - seen.min()))).clip(0, 255)
    rng = np.random.default_rng(0)
    taught = rng.dirichlet(np.ones(10), (len(spoken.sequences.features), FRAMES)).astype(np.float32)
    logits, samples, expected = rng.standard_normal((40, 10)), rng.permutation(200)[:40], 0.0
    numbers = sorted(set(spoken.train.windows.utterance.tolist()))
    for z, sample in zip(logits, samples):
        place, = np.argwhere(np.abs(known - part.train.images[sample][0, CONTEXT].numpy()).max(2) <= 1)
        p = taught[numbers.index(place[0]), (place[1] + off) % FRAMES]
        expected += (p * (np.log(p) - z + np.log(np.exp(z).sum()))).sum() / 40
    hooks = parse("recipes", "sequence_teacher").hooks(run_on(part))
    hooks.restore({"posteriors": torch.from_numpy(np.log(taught))})
    loss = float(hooks.loss(Batch(part.train.labels[samples], torch.from_numpy(logits), samples=torch.from_numpy(samples))))
    assert (loss == pytest.approx(expected, rel=1e-5)) == (off == 0)


def test_the_teacher_s_posteriors_are_of_the_training_utterances_and_sum_to_one(spoken):
    hooks = parse("recipes", "sequence_teacher").hooks(run_on(spoken))
    hooks.on_epoch(0)
    assert hooks.posteriors.shape == (60, FRAMES, 10)
    torch.testing.assert_close(hooks.posteriors.exp().sum(2), torch.ones(60, FRAMES))
    teacher = parse("recipes", "sequence_teacher").teacher(spoken.sequences, CPU)
    expected = torch.stack([log_posteriors(teacher, utterance[None])[0] for utterance in spoken.sequences.features])
    torch.testing.assert_close(hooks.posteriors, expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell, sees_later_frames", [("bilstm", True), ("gru", False)])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_bilstm_hears_the_whole_utterance_and_a_gru_what_was_said_so_far(cell, layers, sees_later_frames, spoken):
    teacher = parse("recipes", f"sequence_teacher-cell_{cell}-layers{layers}-epochs1").teacher(spoken.sequences, CPU)
    changed = spoken.sequences.features[:4].clone()
    changed[:, 8:] = 0
    with torch.no_grad():
        before, after = (log_posteriors(teacher, features)[:, :8] for features in (spoken.sequences.features[:4], changed))
    assert bool((before != after).any()) == sees_later_frames
    assert teacher["recurrent"].num_layers == layers


def test_a_student_of_the_teacher_understands_a_speaker_whom_neither_has_heard(spoken):
    student = network(spoken)
    train(student, spoken, replace(SCHEDULE, epochs=8), 0, [parse("recipes", "sequence_teacher")])
    assert evaluate(student, spoken.test, spoken) > 0.9


def test_a_teacher_that_is_remembered_changes_nothing(spoken):
    students = []
    for _ in range(2):
        sequence_teacher._trained.cache_clear()
        for _ in range(2):
            students.append(network(spoken))
            train(students[-1], spoken, SCHEDULE, 0, [parse("recipes", "sequence_teacher-epochs2")])
            students[-1].number = float(torch.rand(1))  # the random numbers that follow
    assert len({student.number for student in students}) == 1
    for student in students[1:]:
        assert all(torch.equal(a, b) for a, b in zip(students[0].state_dict().values(), student.state_dict().values()))


def test_an_interrupted_run_goes_on_to_the_same_weights_without_another_teacher(spoken, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    whole, begun, resumed = network(spoken), network(spoken), network(spoken, 7)
    recipe, place = parse("recipes", "sequence_teacher-labels0.5-epochs2"), tmp_path / "run.safetensors"
    train(whole, spoken, SCHEDULE, 1, [recipe, Given(Recording())])
    with pytest.raises(KeyboardInterrupt):
        train(begun, spoken, SCHEDULE, 1, [recipe, Given(Recording(stop_at=2))], checkpoint=Checkpoint(place, "a"))
    monkeypatch.setattr(sequence_teacher, "_trained", lambda *given: pytest.fail("trained again"))
    train(resumed, spoken, SCHEDULE, 1, [recipe, Given(Recording())], checkpoint=Checkpoint(place, "a"))
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()))


@pytest.mark.parametrize("changes, words", [
    ({"sequences": None}, 'sequence_teacher learns from sequences.*give data.source = "frames"'),
    ({"augment": ("flip",)}, "sequence_teacher learns from frames as they are.*flip")])
def test_a_run_on_other_data_is_refused_before_anything_is_trained(changes, words, spoken):
    with pytest.raises(SpaceError, match=words):
        parse("recipes", "sequence_teacher").hooks(replace(run_on(spoken), **changes))


@pytest.mark.parametrize("token, words", [("cell_lstm", "cell is 'lstm'"), ("layers3", "layers is 3"), ("labels1.5", "labels is 1.5"),
                                          ("epochs0", "epochs is 0")])
def test_a_setting_that_cannot_be_is_named(token, words):
    with pytest.raises(SpaceError, match=f"sequence_teacher {words}; it can be"):
        parse("recipes", f"sequence_teacher-{token}")


def test_a_study_whose_recipes_need_sequences_is_refused_without_them_and_with_augmentation(spoken):
    space = Space.from_tables([{"width": 8, "blocks": [{"name": "conv"}]}], {}, {}, ["none", "sequence_teacher+logic_rules"], 10)
    space.check_recipes(spoken.sequences, ())
    with pytest.raises(SpaceError, match='space.recipes: sequence_teacher learns from sequences.*data.source = "frames"'):
        space.check_recipes(None, ())
    with pytest.raises(SpaceError, match="space.recipes: sequence_teacher.*data.augment changes them by crop, mixup"):
        space.check_recipes(spoken.sequences, ("crop", "mixup"))
