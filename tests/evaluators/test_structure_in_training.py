"""Penalties on structure take part in a candidate's dense training, and what they brought near zero is removed after it."""

from types import SimpleNamespace

import pytest

from evaluators.pipeline import Lessons, shapes_fixed, trained
from evaluators.rungs import Rung
from evaluators.training.data import Dataset, open_data
from evaluators.training.loop import evaluate
from spaces.candidate import Candidate

pytestmark = pytest.mark.slow
EPOCHS = 25
SETTINGS = SimpleNamespace(epochs=EPOCHS, finetune_epochs=4, batch=64, learning_rate=0.1, finetune_learning_rate=0.02, weight_decay=5e-4,
                           optimizer="sgd", schedule="cosine", label_smoothing=0.0, ema=0.0, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_data(SimpleNamespace(source="digits", path="", validation=0.2, validation_from="train", augment=[]), 0)


def result(chain: str, digits: Dataset) -> tuple[int, float]:
    """The deployed network's numbers, and its accuracy."""
    candidate = Candidate.parse(f"conv:16/1 [*={chain}] conv:24/2 [*={chain}] conv:32/2 [*={chain}] classifier:10/1")
    network, _ = trained(candidate, Rung("full", EPOCHS), Lessons(digits, SETTINGS), 0)
    assert shapes_fixed(candidate) == (chain == "none")
    return sum(parameter.numel() for parameter in network.parameters()), evaluate(network, digits.validation, digits)


@pytest.fixture(scope="module")
def whole(digits) -> tuple[int, float]:
    return result("none", digits)


@pytest.mark.parametrize("token", ["structured_sparsity", "group_lasso-strength0.0003"])
def test_a_tenth_of_the_network_goes_at_a_point_of_accuracy_at_most(token, digits, whole):
    numbers, accuracy = result(token, digits)
    assert numbers <= 0.9 * whole[0] and accuracy >= whole[1] - 0.01


def test_without_the_penalty_nothing_goes(digits, whole):
    assert result("structured_sparsity-filters0-channels0", digits)[0] == whole[0]
