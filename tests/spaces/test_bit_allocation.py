"""Bits by layer: the paper's conditions, brute force over all whole numbers, and the noise that a network really has."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spaces.bit_allocation import best_bits, measured_line, network_ratio, weight_ratio, whole_bits
from spaces.gene import SpaceError, parse

LENET = [500, 25_000, 400_000, 5_000]  # weights of LeNet-5's layers
TENSORS = st.lists(st.tuples(st.integers(10, 10**6), st.floats(4.5, 6.5), st.floats(-5, 1)), min_size=1, max_size=4)


def test_cost_over_noise_is_the_same_for_all_where_bits_are_worth_the_same():
    """[27]: r_i / l_i constant, l_i = 1 / g_i."""
    noise = 10 ** (-5.2 * best_bits(LENET, 4, 5.2) / 10)
    np.testing.assert_allclose(np.array(LENET) / noise, LENET[0] / noise[0], rtol=1e-9)


def test_bits_differ_by_the_ratio_of_the_costs_and_the_largest_layer_has_the_fewest():
    """b_i - b_j = 10 log10(r_j / r_i) / k: ten times the weights, 1.92 bits fewer at 5.2 dB a bit."""
    bits = best_bits([1000, 10_000], 4, 5.2)
    assert bits[0] - bits[1] == pytest.approx(10 / 5.2, rel=1e-12)
    assert best_bits(LENET, 4, 5.2).argmin() == 2 and np.argmin(whole_bits(LENET, 3, 5.2)) == 2


@given(tensors=TENSORS, mean=st.floats(2, 7), seed=st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_no_other_real_bits_of_the_same_cost_bring_less_noise(tensors, mean, seed):
    costs, slopes, offsets = map(np.array, zip(*tensors))
    bits = best_bits(costs, mean, slopes, offsets)
    assert bits @ costs == pytest.approx(mean * costs.sum(), rel=1e-9)
    noise = 10 ** (-(slopes * bits + offsets) / 10)
    np.testing.assert_allclose(costs / (slopes * noise), costs[0] / (slopes[0] * noise[0]), rtol=1e-6)
    moved = np.random.default_rng(seed).normal(size=len(costs))
    moved -= costs * (moved @ costs) / (costs @ costs)
    assert network_ratio(bits + 0.1 * moved, slopes, offsets) <= network_ratio(bits, slopes, offsets) + 1e-9


@given(tensors=TENSORS, mean=st.floats(2, 7))
@settings(max_examples=40, deadline=None)
def test_whole_bits_are_the_best_of_all_that_cost_no_more(tensors, mean):
    costs, slopes, offsets = map(np.array, zip(*tensors))
    found = whole_bits(costs, mean, slopes, offsets)
    choices = np.array(list(itertools.product(range(2, 8), repeat=len(costs))))
    allowed = choices[choices @ costs <= mean * costs.sum()]
    best = -10 * np.log10((10 ** (-(slopes * allowed + offsets) / 10)).sum(1).min())
    assert found @ costs <= mean * costs.sum() and set(found) <= set(range(2, 8))
    assert network_ratio(found, slopes, offsets) == pytest.approx(best, abs=0.002)


def test_whole_bits_say_when_the_fewest_cost_too_much():
    with pytest.raises(SpaceError, match="a mean of 1.5 bits; the fewest are 2"):
        whole_bits(LENET, 1.5, 5.2)


def test_half_the_noise_each_of_two_tensors_is_three_decibels_less():
    assert network_ratio([4, 4], 6.0) == pytest.approx(24 - 10 * np.log10(2))


def test_the_line_of_gaussian_weights_is_that_of_the_published_ratios():
    """With an odd number of levels, 7.21 dB of two bits; between 4 and 7 bits about 5.4 dB each."""
    weight = torch.randn(8, 40_000, generator=torch.Generator().manual_seed(0))
    slope, offset = measured_line(weight)
    assert weight_ratio(weight, 2) == pytest.approx(7.21, abs=0.05)
    for bits, ratio in enumerate([18.90, 24.33, 29.71], 4):
        assert slope * bits + offset == pytest.approx(ratio, abs=1)


@pytest.mark.parametrize("weight", [torch.zeros(4, 9), torch.full((4, 9), float("nan")), torch.ones(4, 9)])
def test_weights_without_a_ratio_are_refused(weight):
    with pytest.raises(SpaceError, match="have no ratio of signal to noise"):
        measured_line(weight)


def lenet(seed: int) -> nn.Sequential:
    """LeNet-5 with random weights."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
                            nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))
    for layer in layers(network):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return network.eval()


def layers(network: nn.Module) -> list:
    return [module for module in network if hasattr(module, "weight")]


def measured(network: nn.Sequential, bits: list[int], images: torch.Tensor) -> float:
    """Signal over noise at the network's outputs in dB, its weights as `intn` rounds them to so many bits."""
    rounded = copy.deepcopy(network)
    for layer, count in zip(layers(rounded), bits):
        layer.weight.data = parse("compression", f"intn-bits{count}-step_mse").prepare(copy.deepcopy(layer)).realised()
    with torch.no_grad():
        signal = network(images)
        return 10 * float(torch.log10(signal.square().sum() / (signal - rounded(images)).square().sum()))


@pytest.mark.parametrize("mean", [3, 5])
def test_a_network_of_random_weights_has_the_noise_that_is_predicted(mean):
    """[27]: within 1.5 dB on LeNet-5, over some draws of its weights."""
    images, told, found = torch.randn(200, 1, 28, 28, generator=torch.Generator().manual_seed(0)), [], []
    for seed in range(5):
        network = lenet(seed)
        slopes, offsets = np.array([measured_line(layer.weight.detach()) for layer in layers(network)]).T
        bits = whole_bits(LENET, mean, slopes, offsets)
        told.append(network_ratio(bits, slopes, offsets))
        found.append(measured(network, bits, images))
    assert np.mean(found) == pytest.approx(np.mean(told), abs=1.5)
