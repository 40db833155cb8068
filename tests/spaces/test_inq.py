"""Incremental network quantisation: the numbers of P and its thresholds against brute force, and what is fixed when."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spaces.compression.inq import PORTIONS, nearest, powers
from spaces.freeze import freeze
from spaces.gene import parse
from spaces.recipe import Run


def layer_of(token: str, weight: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data = weight.clone()
    return parse("compression", token).prepare(layer)


def levels_of(layer: nn.Linear):
    return layer.parametrizations.weight[0]


def latent(layer: nn.Linear) -> nn.Parameter:
    return layer.parametrizations.weight.original


@pytest.mark.parametrize("bits, count", [(2, 3), (3, 5), (4, 9), (5, 17)])
@given(largest=st.floats(2.0**-14, 2.0**14, width=32))
@settings(max_examples=100, deadline=None)
def test_p_has_its_size_and_the_largest_power_that_four_thirds_of_the_largest_weight_reach(bits, count, largest):
    """Equation 2 in whole numbers: 2^n1 <= 4 s / 3 < 2^(n1 + 1)."""
    values = powers(largest, bits)
    assert 2 * len(values) - 1 == count == len(levels_of(layer_of(f"inq-bits{bits}", torch.tensor([[largest, 0]]))).table().unique())
    exact = Fraction(largest) * 4 / 3
    assert Fraction(values[-1]) <= exact < 2 * Fraction(values[-1])
    assert values[1] == values[-1] / 2 ** (2 ** (bits - 2) - 1)


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_weights_become_the_number_whose_interval_holds_them(bits):
    """Equation 4, tried with every number of P; the bounds themselves are among the weights."""
    values = powers(1.4, bits)
    bounds = [(a + b) / 2 for a, b in zip(values, values[1:])]
    weights = np.concatenate([np.random.default_rng(0).uniform(-1.4, 1.4, 2000), bounds, np.negative(bounds), [0]]).astype("float32")
    expected = np.zeros_like(weights)
    for low, number in zip(values, values[1:]):
        held = ((low + number) / 2 <= np.abs(weights)) & (np.abs(weights) < 3 * number / 2)
        expected[held] = np.sign(weights[held]) * number
    found = nearest(torch.from_numpy(weights), torch.tensor(values))
    np.testing.assert_array_equal(found.numpy(), expected)
    assert torch.equal(nearest(found, torch.tensor(values)), found), "what is fixed stays as it is"


@pytest.mark.parametrize("token", ["inq", "inq-bits3-start0.3"])
def test_portions_are_the_largest_weights_and_what_is_fixed_never_changes(token):
    torch.manual_seed(0)
    layer = layer_of(token, torch.randn(20, 30))
    network = nn.Sequential(layer)
    hooks, levels = levels_of(layer).hooks(Run(network, None, None, 3, 30)), levels_of(layer)
    shares, before = PORTIONS[parse("compression", token).start], latent(layer).detach().abs().flatten()
    assert set(levels.fixed.flatten().nonzero().flatten().tolist()) == set(before.topk(round(shares[0] * 600)).indices.tolist())
    seen = []
    for step in range(30):
        fixed, values = levels.fixed.clone(), layer.weight[levels.fixed].clone()
        latent(layer).data += 0.1 * torch.randn(20, 30)
        assert torch.equal(layer.weight[fixed], values)
        was = latent(layer).detach().clone()
        hooks.on_step(step)
        new = levels.fixed & ~fixed
        assert not new.any() or levels.fixed.all() or was[new].abs().min() >= was[~levels.fixed].abs().max()
        assert torch.equal(layer.weight[new], nearest(was[new], levels.powers))
        seen.append(int(levels.fixed.sum()))
    expected = [round(shares[(step + 1) // 10] * 600) for step in range(30)]
    assert seen == expected and seen[-1] == 600


def test_gradients_reach_the_weights_that_are_not_fixed_alone():
    torch.manual_seed(0)
    layer, x, upstream = layer_of("inq", torch.randn(6, 10)), torch.randn(4, 10), torch.randn(4, 6)
    layer.train()(x).backward(upstream)
    torch.testing.assert_close(latent(layer).grad, torch.where(levels_of(layer).fixed, 0.0, upstream.t() @ x))


def test_any_weights_are_fixed_first_where_the_partition_is_random():
    torch.manual_seed(0)
    weight = torch.randn(40, 50)
    fixed = levels_of(layer_of("inq-partition_random", weight)).fixed
    assert int(fixed.sum()) == 1000
    share = float(fixed[weight.abs() > weight.abs().median()].float().mean())
    assert share == pytest.approx(0.5, abs=0.06)


def network_of(token: str) -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2))
    network[0], network[3] = (parse("compression", token).prepare(network[i]) for i in (0, 3))
    return network


def check_all_in_p(network: nn.Module, entries: int) -> None:
    """Every weight of the frozen network is a power of two of its layer, or zero."""
    state = freeze(network).state_dict()
    tables = [value for name, value in state.items() if name.endswith("weight_table")]
    assert len(tables) == 2
    for table in tables:
        mantissa, _ = torch.frexp(table[table != 0].abs())
        assert bool((mantissa == 0.5).all()) and table.numel() == entries


def test_training_that_ended_early_deploys_all_weights_in_p_too():
    network = network_of("inq-bits3")
    layer = network[3].train()
    assert not bool(torch.isin(layer.weight, levels_of(layer).table()).all())
    check_all_in_p(network, 5)
    x = torch.randn(5, 1, 6, 6)
    torch.testing.assert_close(freeze(network)(x), network.eval()(x), rtol=1e-5, atol=1e-5)
    assert bool(torch.isin(layer.weight, levels_of(layer).table()).all())


def test_of_a_pruned_layer_the_kept_weights_are_portioned():
    torch.manual_seed(0)
    pruned = parse("compression", "magnitude-keep0.1").prepare(nn.Linear(100, 30))
    kept = pruned.weight != 0
    layer = parse("compression", "inq-bits3").prepare(pruned)
    levels = layer.parametrizations.weight[-1]
    assert int((levels.fixed & kept).sum()) == round(0.5 * 300)
    hooks = levels.hooks(Run(nn.Sequential(layer), None, None, 1, 1))
    hooks.on_step(0)
    assert bool(levels.fixed.all()) and not layer.train().weight[~kept].any()
