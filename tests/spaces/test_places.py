"""Candidates as what a sampler picks: each goes back to the picks that decode to it."""

import random

import pytest

from spaces.candidate import Candidate
from spaces.gene import SpaceError
from spaces.places import picks_of
from tests.spaces.test_sharing import space_of

SPACES = ["mixed", "cifar10.toml", "digits.toml", "formats.toml"]


@pytest.mark.parametrize("name", SPACES)
def test_every_candidate_goes_back_to_picks_that_decode_to_it(name):
    space = space_of(name)
    for seed in range(60):
        pick = random.Random(seed)
        candidate = space.sample(lambda name, options: pick.choice(options))
        picks = picks_of(space, candidate)
        assert set(picks) == set(space.choices) and all(picks[name] in options for name, options in space.choices.items())
        assert space.decode(picks) == candidate


@pytest.mark.parametrize("text", [
    "conv:8/1 classifier:5/1", "conv:8/1 mbconv-expand2:8/1 fire:16/1 classifier:7/1",
    "conv:8/1 mbconv-expand2:8/1 [project=int8] fire:16/1 classifier:5/1", "conv-kernel7:8/1 mbconv-expand2:8/1 fire:16/1 classifier:5/1"])
def test_a_candidate_of_another_space_is_refused(text):
    with pytest.raises(SpaceError, match="is no candidate of this space"):
        picks_of(space_of("mixed"), Candidate.parse(text))
