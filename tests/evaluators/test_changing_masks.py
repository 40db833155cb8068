"""Masks that change in training, in the training loop: interrupted, averaged, and what surgery splices."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn.utils import parametrize

from evaluators.pipeline import calibration
from evaluators.training import checkpoint as checkpoints
from evaluators.training.checkpoint import Checkpoint
from evaluators.training.data import Dataset, open_data
from evaluators.training.loop import evaluate, train, warm
from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import prepare
from spaces.freeze import freeze
from tests.evaluators.test_training import FAST, settings
from tests.evaluators.test_training_runs import Given, Recording

SHORT = replace(FAST, epochs=3, learning_rate=0.05)
CANDIDATE = ("conv:16/1 [*=surgery-keep0.3-stop0.7] conv:32/2 [*=memory_bounded-budget0.3-every4] conv:32/1 [*=magnitude-keep0.1-rounds3]"
             " classifier:10/1 [*=surgery-keep0.2+int8]")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_data(settings(), 0)


def prepared(text: str, digits: Dataset, epochs: int = 3):
    """A network that was trained a little, with its compressions in place."""
    torch.manual_seed(0)
    candidate = Candidate.parse(text)
    network = build(candidate, digits.shape)
    train(network, digits, replace(FAST, epochs=epochs), 0)
    return prepare(network, candidate.chains, calibration(digits, 0), partial(warm, dataset=digits, batch=64, seed=0))


def masks(graph) -> list[torch.Tensor]:
    """Which weights each masked layer computes with."""
    return [module.weight != 0 for module in graph.eval().modules() if parametrize.is_parametrized(module, "weight")]


@pytest.mark.parametrize("ema", [0.0, 0.95])
@pytest.mark.parametrize("stop_at", [1, 2])
def test_an_interrupted_run_goes_on_to_the_same_masks_and_weights(stop_at, ema, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    whole, begun, resumed = (prepared(CANDIDATE, digits, 1) for _ in range(3))
    schedule, checkpoint = replace(SHORT, ema=ema), Checkpoint(tmp_path / "run.safetensors", "a")
    torch.manual_seed(5)
    train(whole, digits, schedule, 1)
    torch.manual_seed(5)
    with pytest.raises(KeyboardInterrupt):
        train(begun, digits, schedule, 1, [Given(Recording(stop_at))], checkpoint=checkpoint)
    train(resumed, digits, schedule, 1, [Given(Recording())], checkpoint=checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()))


@pytest.mark.parametrize("ema", [0.0, 0.95])
def test_counts_and_budgets_hold_where_weights_are_averaged_over_the_steps(ema, digits):
    graph = prepared(CANDIDATE, digits)
    train(graph, digits, replace(SHORT, epochs=6, ema=ema), 1)
    state = freeze(graph).state_dict()
    counts = [int(mask.sum()) for mask in masks(graph)]
    dense = 4 * (32 * 16 * 9 + 32)
    bounded = sum(tensor.nbytes for name, tensor in state.items() if name.startswith("layers.1."))
    assert dense * 0.3 - 4 < bounded <= dense * 0.3
    assert counts[2] == round(0.1 * 32 * 32 * 9) == state["layers.2.conv.weight_values"].numel()
    assert counts[0] == state["layers.0.conv.weight_values"].numel()
    assert evaluate(freeze(graph), digits.validation, digits) > 0.9


def test_surgery_splices_weights_that_stay(digits):
    """[15]: what was cut at first and is kept in the end."""
    graph = prepared("conv:16/1 conv:32/2 [*=surgery-keep0.05] classifier:10/1 [*=surgery-keep0.05]", digits)
    before = masks(graph)
    train(graph, digits, replace(SHORT, epochs=8), 1)
    after = masks(graph)
    assert all(int((last & ~first).sum()) > 0 for first, last in zip(before, after))
    assert any(int((first & ~last).sum()) > 0 for first, last in zip(before, after)), "and others were cut"


def test_another_weight_takes_a_place_within_the_memory_bound(digits):
    graph = prepared("conv:16/1 conv:32/2 [*=memory_bounded-budget0.1] classifier:10/1", digits)
    before, = masks(graph)
    train(graph, digits, replace(SHORT, learning_rate=0.2), 1)
    after, = masks(graph)
    assert int((after & ~before).sum()) == int((before & ~after).sum()) > 0
