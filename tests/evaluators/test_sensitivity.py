"""Sensitivity: what one layer's compression costs and saves, and mixtures that cost least."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from evaluators.given_network import given_network
from evaluators.pipeline import schedule_of
from evaluators.sensitivity import Effect, Sensitivity, mixtures, sensitivity
from evaluators.stored_bytes import StoredBytes
from evaluators.training.data import open_data
from evaluators.training.loop import evaluate, train, warm
from search.study_file import TrainTable
from spaces.build import build
from spaces.candidate import Candidate, Layer, chain_text, parse_chain
from spaces.compress import prepare
from spaces.freeze import freeze
from spaces.gene import parse
from spaces.given import given
from spaces.site import Calibration

TRAIN = TrainTable(epochs=6, finetune_epochs=1, batch=32, learning_rate=0.1)
CHAINS = [parse_chain(text) for text in ("none", "int8", "intn-bits2", "l1_filters-keep0.5")]


def network() -> nn.Module:
    """For the digits; its second layer is much wider than it need be."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 64, 3, 1, 1), nn.BatchNorm2d(64), nn.ReLU(),
                         nn.Conv2d(64, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The digits, the network's layer and trained weights, and its sensitivity."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        given.cache_clear()
        digits = open_data(SimpleNamespace(source="digits", path="", validation=0.2, validation_from="train", augment=[]), 0)
        name = given_network(SimpleNamespace(source=f"{__name__}:network", weights=""), (1, 8, 8), 10)
        layer = Layer(parse("blocks", f"given-network_{name}"), 10)
        dense = build(Candidate((layer,)), digits.shape)
        train(dense, digits, schedule_of(TRAIN, 6, 0.1), 0)
        weights = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
        told = []
        found = sensitivity(layer, weights, {role: CHAINS for role in layer.block.roles()}, digits, told.append)
        *tried, last = told
        assert tried == [f"{effect.role} {chain_text(effect.chain)}" for effect in found.effects]
        assert last.startswith("11 l1_filters is left out: l1_filters does not fit")
        yield digits, layer, weights, found


def test_every_chain_that_fits_is_tried_on_every_layer(trained):
    _, layer, _, found = trained
    tried = {(effect.role, chain_text(effect.chain)) for effect in found.effects}
    expected = {(role, chain) for role in ("0", "3", "6", "11") for chain in ("int8", "intn-bits2")}
    assert tried == expected | {(role, "l1_filters") for role in ("0", "3", "6")} and found.roles == ["0", "3", "6", "11"]


def test_figures_are_those_of_the_network_with_that_layer_compressed(trained):
    digits, layer, weights, found = trained
    effect = next(effect for effect in found.effects if effect.role == "3" and chain_text(effect.chain) == "l1_filters")
    candidate = Candidate((replace(layer, compressions=(("3", effect.chain),)),))
    pruned = build(candidate, digits.shape)
    pruned.load_state_dict(weights)
    images = Calibration.unlabelled(digits.normalised(digits.train.images[:8]))
    frozen = freeze(prepare(pruned, candidate.chains, images, lambda graph: warm(graph, digits, 128, 0, 2)))
    assert effect.stored_bytes == StoredBytes().evaluate(SimpleNamespace(network=frozen, coded=()))["stored_bytes"]
    assert effect.macs == 16 * (9 * 8 + 9 * 8 * 32 + 9 * 32 * 16) + 160  # a 4x4 image; half of the 64 filters
    assert found.accuracy - effect.points / 100 == pytest.approx(evaluate(frozen, digits.validation, digits), abs=1e-6)


def test_two_bits_change_more_than_eight_everywhere(trained):
    *_, found = trained
    for role in found.roles:
        by_chain = {chain_text(effect.chain): effect.divergence for effect in found.of(role)}
        assert by_chain["none"] == 0 <= by_chain["int8"] < by_chain["intn-bits2"]


def made_up(*effects: tuple) -> Sensitivity:
    dense = Effect("", (), 0.0, 0.0, 1000, 500)
    return Sensitivity(None, dense, 0.9, tuple(Effect(role, parse_chain(text), 0.0, cost, stored, macs)
                                               for role, text, cost, stored, macs in effects))


def test_mixtures_go_from_the_mildest_to_the_strongest_and_take_first_what_costs_least_for_its_bytes():
    found = made_up(("a", "int8", 0.01, 700, 500), ("a", "intn-bits2", 0.5, 650, 500), ("b", "int8", 0.2, 900, 500))
    texts = [{role: chain_text(chain) for role, chain in choice.items()} for choice in mixtures(found, 6)]
    assert texts[:3] == [{"a": "int8"}, {"a": "int8", "b": "int8"}, {"a": "intn-bits2", "b": "int8"}]


def test_mixtures_of_what_saves_multiplications_come_too():
    found = made_up(("a", "int8", 0.1, 500, 500), ("a", "l1_filters", 0.2, 600, 250), ("b", "int8", 0.1, 900, 500))
    assert {"a": "l1_filters", "b": "int8"} in [{role: chain_text(chain) for role, chain in choice.items()} for choice in mixtures(found, 8)]
