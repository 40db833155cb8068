"""The supernet: a step changes the part of the candidates that it trains, and candidates inherit what was learnt."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from evaluators.training import checkpoint as checkpoints
from evaluators.training.data import Dataset, open_data
from evaluators.training.loop import evaluate
from evaluators.training.schedule import Schedule
from evaluators.training.supernet import Supernet, _Sandwich, inherit, train_supernet
from spaces.build import build
from spaces.candidate import Candidate
from spaces.recipe import Run
from spaces.space import Space

STAGES = [{"width": [8, 16], "blocks": [{"name": "conv"}]},
          {"layers": [1, 2], "width": [16, 24], "stride": 2, "blocks": [{"name": "mbconv", "expand": [1, 2], "kernel": [3, 5]}]},
          {"width": [24, 32], "blocks": [{"name": "fire", "squeeze": [0.25, 0.5], "norm": "batch"}]}]
SPACE = Space.from_tables(STAGES, {}, {"*": ["none", "int8"]}, [], 10)
NARROW = Candidate.parse("conv:8/1 mbconv-expand1:16/2 fire-squeeze0.25-norm_batch:24/1 classifier:10/1")
WIDE = Candidate.parse("conv:16/1 mbconv-expand2-kernel5:24/2 mbconv-expand2:24/1 fire-squeeze0.5-norm_batch:32/1 classifier:10/1")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_data(SimpleNamespace(source="digits", path="", validation=0.2, validation_from="train", augment=[]), 0)


def test_an_inherited_network_computes_what_the_supernet_does():
    supernet, images = Supernet(SPACE, (1, 8, 8), 0), torch.randn(5, 1, 8, 8)
    for candidate in (NARROW, WIDE):
        supernet.choose(candidate)
        inherited = supernet.inherited(candidate).train()
        # What batch norms add to variances is more beside the smaller ones of an inherited network.
        for module in (*inherited.modules(), *(module for piece in supernet._chosen for module in piece.module.modules())):
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-12
        torch.testing.assert_close(inherited(images), supernet(images))


def test_what_is_in_front_of_a_batch_norm_is_inherited_in_the_size_of_untrained_weights():
    supernet = Supernet(SPACE, (1, 8, 8), 0)
    inherited, untrained = supernet.inherited(WIDE), [build(WIDE, (1, 8, 8)) for _ in range(100)]
    for layer in ("layers.0.conv", "layers.1.depthwise", "layers.3.expand3x3"):
        usual = torch.stack([network.get_submodule(layer).weight.norm() for network in untrained]).square().mean().sqrt()
        torch.testing.assert_close(inherited.get_submodule(layer).weight.norm(), usual, rtol=0.03, atol=0)
    dense = torch.cat([network.get_parameter("layers.4.dense.weight") for network in untrained]).square().mean()
    assert not torch.isclose(inherited.get_parameter("layers.4.dense.weight").square().mean(), dense, rtol=0.3)


def test_what_is_inherited_does_not_depend_on_random_numbers_drawn_before():
    supernet = Supernet(SPACE, (1, 8, 8), 0)
    first, second = (supernet.inherited(WIDE).state_dict() for _ in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_candidate_learns_its_own_part_alone():
    supernet = Supernet(SPACE, (1, 8, 8), 0)
    supernet.choose(NARROW)
    supernet(torch.randn(5, 1, 8, 8)).square().sum().backward()
    own = sum(p.numel() for p in build(NARROW, (1, 8, 8)).parameters())
    touched = sum(int((p.grad != 0).sum()) for p in supernet.parameters() if p.grad is not None)
    assert 0.9 * own < touched <= own < 0.5 * sum(p.numel() for p in supernet.parameters())


@pytest.fixture(scope="module")
def trained(digits):
    torch.manual_seed(0)
    return train_supernet(SPACE, digits, Schedule(6, 64, 0.1, 0.0, "novograd"), 3)


@pytest.mark.parametrize("candidate", [NARROW, WIDE])
def test_candidates_inherit_what_the_supernet_learnt(candidate, trained, digits):
    network = inherit(trained, candidate, digits, 64, 0)
    assert evaluate(network, digits.validation, digits) > 0.5


def test_numbers_open_from_the_greatest_to_the_least_while_it_shrinks():
    hooks = _Sandwich(Supernet(SPACE, (1, 8, 8), 0), 0, 0.5).hooks(Run(None, None, None, 10, 200))
    widths = []
    for step in (0, 49, 98, 200):
        hooks.on_step(step)
        widths.append({layer.width for _ in range(40) for layer in hooks._drawn(None).layers[:-1]})
    assert widths[0] == {layer.width for layer in hooks.supernet.anchor.layers[:-1]}
    assert widths[0] < widths[1] <= widths[2] == widths[3]


def test_a_killed_supernet_goes_on_to_the_same_weights(digits, tmp_path, monkeypatch):
    few = replace(digits, train=type(digits.train)(digits.train.images[:192], digits.train.labels[:192]))
    schedule = Schedule(3, 64, 0.1, 0.0, "novograd")
    torch.manual_seed(1)
    whole = train_supernet(SPACE, few, schedule, 5, 0.5).state_dict()
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    write, kept = checkpoints.Checkpoint.write, []

    def killed(self, tensors, numbers):
        write(self, tensors, numbers)
        kept.append(numbers["epoch"])
        if len(kept) == 2:
            raise KeyboardInterrupt
    monkeypatch.setattr(checkpoints.Checkpoint, "write", killed)
    torch.manual_seed(1)
    with pytest.raises(KeyboardInterrupt):
        train_supernet(SPACE, few, schedule, 5, 0.5, tmp_path)
    resumed = train_supernet(SPACE, few, schedule, 5, 0.5, tmp_path).state_dict()
    assert kept == [1, 2, 3] and all(torch.equal(resumed[name], value) for name, value in whole.items())
