"""What `netwright bench lenet` computes, on the digits in MNIST's size."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from torch.nn import functional

from evaluators.training.data import open_data
from search.bench import lenet


@pytest.fixture
def digits():
    """Images of 28x28, in a few epochs."""
    small = open_data(SimpleNamespace(source="digits", path="", validation=0.2, validation_from="train", augment=[]), 0)

    def large(split):
        return type(split)(functional.interpolate(split.images[:], (28, 28)), split.labels)
    return replace(small, train=large(small.train), validation=large(small.validation), test=large(small.test))


@pytest.mark.parametrize("name, weights, parameters", [("LeNet-300-100", 266_200, 266_610), ("LeNet-5", 430_500, 431_080)])
def test_the_networks_are_those_of_the_paper(name, weights, parameters):
    network = lenet.network(name)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert sum(network.get_parameter(f"{path}.weight").numel() for path in lenet.KEEP[name]) == weights


def test_the_shares_of_the_paper_stay_and_all_that_is_stored_counts(digits, monkeypatch):
    for name, epochs in (("DENSE_EPOCHS", 10), ("PRUNE_EPOCHS", 8), ("SHARE_EPOCHS", 2)):
        monkeypatch.setattr(lenet, name, epochs)
    found = lenet._compressed("LeNet-300-100", 0, digits)
    layers = {"1": 235_200, "3": 30_000, "5": 1_000}
    assert found["kept_weights"] <= sum(round(lenet.KEEP["LeNet-300-100"][path] * count) for path, count in layers.items())
    assert found["kept_weights"] > 0.99 * 21_776
    least = (found["kept_weights"] * 2 + 410 * 32) / 8  # two bits a weight, biases as they are
    assert least < found["stored_bytes"] < found["bytes"] / 30
    assert found["compressed_accuracy"] > 0.7 and found["accuracy"] > 0.8
    assert 0 < found["surgery_weights"] < 0.06 * found["weights"]
    assert abs(found["magnitude_weights"] - found["surgery_weights"]) <= len(layers)
    assert found["surgery_accuracy"] > 0.7
