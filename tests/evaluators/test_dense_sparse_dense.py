"""Dense-sparse-dense training [13]: what each stage does to the weights, and what an interruption does not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.training import checkpoint as checkpoints
from evaluators.training.checkpoint import Checkpoint
from evaluators.training.data import Dataset, open_data
from evaluators.training.loop import train
from evaluators.training.schedule import Schedule
from spaces.gene import SpaceError, parse
from spaces.recipe import Hooks, Run
from tests.evaluators.test_training import network, settings
from tests.evaluators.test_training_runs import Given, Recording

SCHEDULE = Schedule(epochs=6, batch=64, learning_rate=0.1, weight_decay=1e-3)
RECIPE = parse("recipes", "dense_sparse_dense-sparsity0.4")
DENSE, SPARSE = 2, 4  # epochs at which the first two stages end


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_data(settings(), 0).part(256, 0)


class Looking(Hooks):
    """Keeps the weights of every layer and what the network gives of the example, before each epoch and after each step."""

    def __init__(self):
        self.epochs, self.steps, self.outputs = [], [], []

    def hooks(self, run):
        self.network, self.example = run.network, run.example
        return self

    def layers(self) -> list[np.ndarray]:
        return [layer.weight.numpy(force=True).copy() for layer in self.network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]

    def on_epoch(self, epoch):
        self.epochs.append(self.layers())

    def on_step(self, step):
        self.steps.append(self.layers())


@pytest.fixture(scope="module")
def looked(digits) -> Looking:
    looking = Looking()
    train(network(), digits, SCHEDULE, 1, [RECIPE, looking])
    return looking


def zeros(layers: list[np.ndarray]) -> list[int]:
    return [int((weight == 0).sum()) for weight in layers]


def test_in_the_middle_exactly_the_share_is_zero_but_in_the_last_layer_and_nowhere_before(looked):
    counts = [round(0.4 * weight.size) for weight in looked.steps[0][:-1]] + [0]
    for step, layers in enumerate(looked.steps):
        if step // 4 < DENSE:
            assert sum(zeros(layers)) == 0
        elif step // 4 < SPARSE:
            assert zeros(layers) == counts


def test_the_smallest_weights_are_zero_once_and_for_the_whole_stage(looked):
    before, stage = looked.steps[DENSE * 4 - 1], looked.steps[DENSE * 4:SPARSE * 4]
    for number, weight in enumerate(before[:-1]):
        smallest = np.argsort(np.abs(weight), axis=None, kind="stable")[:round(0.4 * weight.size)]
        for layers in stage:
            assert set(np.flatnonzero(layers[number] == 0)) == set(smallest)
        kept = np.setdiff1d(np.arange(weight.size), smallest)
        np.testing.assert_array_equal(looked.epochs[DENSE][number].flat[kept], weight.flat[kept])


def test_the_last_stage_begins_with_the_weights_of_the_middle_and_then_all_learn(looked):
    for first, last in zip(looked.epochs[SPARSE], looked.steps[SPARSE * 4 - 1]):
        np.testing.assert_array_equal(first, last)
    assert sum(zeros(looked.steps[-1])) == 0


def test_the_last_stage_is_a_run_of_its_own_at_a_tenth_of_the_rate(digits, monkeypatch):
    """So that no momentum of the sparse stage moves a weight."""
    images = [(digits.normalised(digits.train.images[:64]), digits.train.labels[:64], torch.arange(64))]
    monkeypatch.setattr("evaluators.training.loop.batches", lambda *_: iter(images))
    staged, apart, kept = network(), network(), {}

    class Keeping(Hooks):
        def on_epoch(self, epoch):
            if epoch == SPARSE:
                kept.update({name: value.clone() for name, value in staged.state_dict().items()})
    train(staged, digits, SCHEDULE, 1, [RECIPE, Given(Keeping())])
    apart.load_state_dict(kept)
    train(apart, digits, replace(SCHEDULE, epochs=SCHEDULE.epochs - SPARSE, learning_rate=0.01), 1)
    assert all(torch.equal(a, b) for a, b in zip(staged.state_dict().values(), apart.state_dict().values()))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("stop_at", [1, 2, 3, 4, 5])
def test_an_interrupted_run_goes_on_to_the_same_weights(stop_at, optimizer, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    schedule = replace(SCHEDULE, optimizer=optimizer, learning_rate=0.1 if optimizer == "sgd" else 0.01)
    whole, resumed, checkpoint = network(), network(seed=7), Checkpoint(tmp_path / "run.safetensors", "a")
    train(whole, digits, schedule, 1, [RECIPE, Given(Recording())])
    with pytest.raises(KeyboardInterrupt):
        train(network(), digits, schedule, 1, [RECIPE, Given(Recording(stop_at))], checkpoint=checkpoint)
    train(resumed, digits, schedule, 1, [RECIPE, Given(Recording())], checkpoint=checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()))


@pytest.mark.parametrize("epochs, dense, sparse, stages", [
    (10, 0.4, 0.3, (4, 7)), (3, 0.4, 0.3, (1, 2)), (3, 0, 0.9, (1, 2)), (4, 0.9, 0.05, (2, 3)), (100, 0, 0.5, (1, 50)), (2, 0.4, 0.3, ()),
    (1, 0.4, 0.3, ())])
def test_every_stage_has_an_epoch_where_there_are_three(epochs, dense, sparse, stages):
    recipe = parse("recipes", f"dense_sparse_dense-dense{dense}-sparse{sparse}")
    hooks = recipe.hooks(Run(network(), None, None, epochs, epochs))
    assert hooks.stages() == stages
    assert [hooks.rate(epoch) for epoch in (0, *stages)] == [1.0, 1.0, 0.1][:1 + len(stages)]


def test_stages_that_leave_nothing_for_the_last_are_refused():
    with pytest.raises(SpaceError, match="first two stages take 1.1 of the epochs"):
        parse("recipes", "dense_sparse_dense-dense0.6-sparse0.5")
