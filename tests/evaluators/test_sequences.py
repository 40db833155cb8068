"""Windows of sequences: which frames they hold, who is held out, how utterances are judged, and what is wrong with files."""

import numpy as np
import pytest
import torch

from evaluators.training.data import Split, batches
from evaluators.training.loop import evaluate
from evaluators.training.raw import DataError, Windows, split_by_speaker
from tests.evaluators import utterances
from tests.evaluators.utterances import BANDS, CONTEXT, FRAMES, SPEAKERS

SPLITS = ("train", "validation", "test")
GIVEN = utterances.arrays()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    return utterances.opened(tmp_path_factory.mktemp("spoken"))


def in_bytes(features):
    """Features as the data set keeps them: 256 steps over the range of all but the last speaker."""
    seen = GIVEN["x"][GIVEN["speaker"] < SPEAKERS - 1].astype(np.float64)
    return np.clip(np.round((features.astype(np.float64) - seen.min()) / (seen.max() - seen.min()) * 255), 0, 255)


@pytest.mark.parametrize("name", SPLITS)
def test_an_image_is_its_frame_between_its_neighbours_and_the_ends_are_repeated(name, spoken):
    split = getattr(spoken, name)
    assert split.images.shape[1:] == (1, 2 * CONTEXT + 1, BANDS)
    for image, label, utterance, frame in zip(split.images[:], split.labels, split.windows.utterance, split.windows.frame):
        for offset in range(-CONTEXT, CONTEXT + 1):
            spoken_then = GIVEN["x"][utterance, min(max(int(frame) + offset, 0), FRAMES - 1)]
            assert np.abs(image[0, CONTEXT + offset].numpy() - in_bytes(spoken_then)).max() <= 1  # where float32 rounds otherwise
        assert label == GIVEN["label"][utterance]


def test_without_context_an_image_is_one_frame(tmp_path):
    alone = utterances.opened(tmp_path, context=0)
    middles = utterances.opened(tmp_path).train.images[:][:, :, CONTEXT:CONTEXT + 1]
    assert torch.equal(alone.train.images[:], middles) and alone.shape == (1, 1, BANDS)


def test_every_frame_of_every_utterance_is_in_one_split_once_and_no_speaker_in_two(spoken):
    splits = [getattr(spoken, name).windows for name in SPLITS]
    places = [(int(u), int(t)) for windows in splits for u, t in zip(windows.utterance, windows.frame)]
    assert sorted(places) == [(u, t) for u in range(len(GIVEN["x"])) for t in range(FRAMES)]
    speakers = [set(windows.speaker.tolist()) for windows in splits]
    assert [len(each) for each in speakers] == [3, 1, 1] and set.union(*speakers) == set(range(SPEAKERS))
    for windows in splits:
        assert windows.speaker.tolist() == GIVEN["speaker"][windows.utterance].tolist()


def test_the_last_speaker_is_the_test_split_and_the_seed_draws_who_is_for_validation():
    masks = [split_by_speaker(GIVEN["speaker"], 0.2, seed) for seed in range(20)]
    assert {tuple(np.unique(GIVEN["speaker"][mask])) for mask in masks} == {(number,) for number in range(SPEAKERS)}


@pytest.mark.parametrize("counts, share, said", [
    ((10, 10, 10, 10), 0.5, {20}), ((10, 10, 10, 10), 0.01, {10}), ((10, 10, 10, 10), 0.99, {30}), ((90, 10), 0.1, {10}),
    ((50, 30, 20), 0.5, {50}), ((60, 40), 0.9, {60}), ((41, 23, 17, 11, 7), 0.3, {30})])
def test_whole_speakers_are_held_out_at_least_one_and_not_all(counts, share, said):
    speakers = np.arange(len(counts)).repeat(counts)
    masks = [split_by_speaker(speakers, share, seed) for seed in range(20)]
    assert all(len(np.unique(mask[speakers == number])) == 1 for mask in masks for number in range(len(counts)))
    assert {int(mask.sum()) for mask in masks} == said


def test_the_frame_in_the_middle_of_a_training_image_stands_in_the_sequences_where_they_say(spoken):
    sequences, windows = spoken.sequences, spoken.train.windows
    assert sequences.features.shape == (60, FRAMES, BANDS) and sequences.classes == 10
    for i in range(len(spoken.train)):
        middle = (in_bytes(GIVEN["x"][windows.utterance[i], windows.frame[i]]) - float(spoken.mean)) / float(spoken.std)
        found = sequences.features[sequences.utterance[i], sequences.frame[i]].numpy()
        assert np.abs(found - middle).max() <= 1.01 / float(spoken.std)
        assert sequences.labels[sequences.utterance[i]] == spoken.train.labels[i]


def test_a_part_of_the_images_keeps_whole_sequences(spoken):
    part = spoken.part(50, 3)
    assert part.sequences.features is spoken.sequences.features and len(part.train) == 50
    middles = part.normalised(part.train.images[:])[:, 0, CONTEXT]
    torch.testing.assert_close(part.sequences.features[part.sequences.utterance, part.sequences.frame], middles)


def test_a_batch_says_which_training_images_it_holds(spoken):
    for images, labels, samples in batches(spoken, 64, torch.Generator().manual_seed(0)):
        assert torch.equal(images, spoken.normalised(spoken.train.images[samples])) and torch.equal(labels, spoken.train.labels[samples])


def test_an_utterance_is_what_the_sum_of_its_log_posteriors_says():
    rng = np.random.default_rng(0)
    utterance = rng.permutation(np.array([7, 3, 11]).repeat([5, 4, 6]))
    right, count, majority = {7: 2, 3: 0, 11: 1}, 0, 0
    logits = rng.normal(size=(15, 3)).astype(np.float32) * 3
    for number, label in right.items():
        rows = logits[utterance == number].astype(np.float64)
        log_p = rows - np.log(np.exp(rows).sum(1, keepdims=True))
        count += int(log_p.sum(0).argmax() == label)
        majority += int(np.bincount(rows.argmax(1), minlength=3).argmax() == label)
    labels, none = torch.tensor([right[number] for number in utterance]), torch.zeros(15, dtype=torch.int64)
    images = torch.zeros(15, 1, 1, 1, dtype=torch.uint8)
    assert Split(images, labels, Windows(torch.from_numpy(utterance), none, none)).accuracy(torch.from_numpy(logits)) == count / 3
    assert Split(images, labels).accuracy(torch.from_numpy(logits)) == np.mean(logits.argmax(1) == labels.numpy())


def test_one_sure_frame_outweighs_two_that_guess():
    """Votes would say class 0."""
    logits, none = torch.tensor([[0.1, 0.0], [0.1, 0.0], [0.0, 5.0]]), torch.zeros(3, dtype=torch.int64)
    split = Split(torch.zeros(3, 1, 1, 1, dtype=torch.uint8), torch.ones(3, dtype=torch.int64), Windows(none, none, none))
    assert split.accuracy(logits) == 1


def test_a_network_is_judged_by_utterances(spoken):
    """One that sums up its windows' bands says the loudest band, which is the class."""
    class Loudest(torch.nn.Module):
        def forward(self, images):
            return images.mean((1, 2))
    assert evaluate(Loudest(), spoken.test, spoken) == 1
    assert float((spoken.normalised(spoken.test.images).mean((1, 2)).argmax(1) == spoken.test.labels).float().mean()) < 0.9


@pytest.mark.parametrize("changes, words", [
    ({"x": GIVEN["x"].astype(np.int64)}, ["x is int64", "floating-point"]),
    ({"x": GIVEN["x"][:, 0]}, ["x is float16", "[utterances, frames, features]"]),
    ({"x": np.full_like(GIVEN["x"], np.nan)}, ["finite"]),
    ({"label": GIVEN["label"][:-1]}, ["label is uint8 (99,)", "100 utterances"]),
    ({"speaker": GIVEN["speaker"] + 0.5}, ["speaker is float64", "whole numbers from 0"]),
    ({"speaker": GIVEN["speaker"] % 2}, ["2 speakers", "at least 3"]),
])
def test_what_is_wrong_with_a_file_of_sequences_is_named(changes, words, tmp_path):
    with pytest.raises(DataError) as caught:
        utterances.opened(tmp_path, changes)
    assert all(word in str(caught.value) for word in ("spoken.npz", *words)) and "\n" not in str(caught.value)
