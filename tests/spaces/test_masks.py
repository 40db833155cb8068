"""Masks that change while a network trains: surgery, rounds of pruning and memory bounds, step by step, against NumPy and autograd."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import prepare
from spaces.freeze import freeze
from spaces.gene import SpaceError, parse
from spaces.masks import largest
from spaces.recipe import Run
from spaces.site import Calibration

SHAPE = (3, 12, 12)


def layer_of(token: str, weight: torch.Tensor) -> nn.Linear:
    """A dense layer with these weights, compressed."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data = weight.clone()
    return parse("compression", token).prepare(layer)


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def original(layer: nn.Module) -> torch.Tensor:
    """The trained weights under the mask."""
    return layer.parametrizations.weight.original


def hooks_of(layer: nn.Module, steps: int):
    """The part of the layer's mask in a run of so many steps."""
    return layer.parametrizations.weight[0].hooks(Run(layer, None, None, 1, steps))


def stored_bytes(layer: nn.Module) -> int:
    """Bytes of all tensors of the frozen layer."""
    return sum(tensor.nbytes for tensor in freeze(nn.Sequential(layer)).state_dict().values())


@given(shape=st.lists(st.integers(1, 7), min_size=2, max_size=4), different=st.integers(1, 20), share=st.floats(0, 1),
       seed=st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_the_largest_are_those_of_a_stable_sort(shape, different, share, seed):
    weight = np.random.default_rng(seed).integers(-different, different + 1, shape).astype("float32")
    count, expected = round(share * weight.size), np.zeros(weight.size, "float32")
    expected[np.argsort(-np.abs(weight), axis=None, kind="stable")[:count]] = 1
    found = largest(torch.from_numpy(weight), count)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), expected.reshape(shape))


def test_surgery_begins_with_the_bands_of_the_paper():
    """Equation 3 at iteration 0, all weights kept before: those up to 0.9 t go; t is the mean plus c deviations of |W|."""
    weight = gaussian(40, 60)
    layer, size = layer_of("surgery-keep0.2", weight), weight.abs().numpy()
    t = np.sort(size, axis=None)[::-1][480]
    c = (t - size.mean()) / size.std()
    assert c == pytest.approx((1.2816 - math.sqrt(2 / math.pi)) / math.sqrt(1 - 2 / math.pi), abs=0.1), "that of a half-normal quantile"
    low = np.float32(0.9 * max(size.mean() + c * size.std(), 0))
    np.testing.assert_array_equal(layer.weight.detach().numpy(), weight.numpy() * (size > low))


@pytest.mark.parametrize("tail", [(), (nn.ReLU(), nn.Linear(9, 3))])
def test_a_cut_weight_gets_the_gradient_of_the_masked_weights_exactly(tail):
    layer = layer_of("surgery-keep0.3", gaussian(9, 20))
    x, rest = gaussian(16, 20, 1), nn.Sequential(*tail)
    rest(layer(x)).square().sum().backward()
    masked = layer.weight.detach().clone().requires_grad_(True)
    rest(nn.functional.linear(x, masked, layer.bias)).square().sum().backward()
    assert torch.equal(original(layer).grad, masked.grad)
    assert bool(original(layer).grad[layer.weight == 0].any())


@given(seed=st.integers(0, 2**31), keep=st.floats(0.01, 0.9))
@settings(max_examples=50, deadline=None)
def test_surgery_cuts_below_the_band_splices_above_it_and_leaves_what_is_in_it(seed, keep):
    weight, moved = gaussian(8, 30, seed), gaussian(8, 30, seed + 1)
    layer = layer_of(f"surgery-keep{keep:.3f}-gamma0", weight)
    mask = layer.parametrizations.weight[0]
    t, before = parse("compression", f"surgery-keep{keep:.3f}").threshold(weight), mask.mask.numpy().copy()
    original(layer).data.copy_(moved)
    hooks_of(layer, 100).on_step(0)
    size = moved.abs().numpy()
    expected = np.where(size <= np.float32(0.9 * t), 0, np.where(size > np.float32(1.1 * t), 1, before))
    expected.flat[size.argmax()] = max(expected.flat[size.argmax()], before.flat[size.argmax()])
    np.testing.assert_array_equal(mask.mask.numpy(), expected)


def test_thresholds_are_those_of_the_beginning():
    layer = layer_of("surgery-keep0.5-gamma0", gaussian(20, 20))
    original(layer).data.mul_(1e-3)
    hooks_of(layer, 100).on_step(0)
    assert int(layer.weight.count_nonzero()) == 1, "all shrank below the first threshold; the largest is never cut"


def test_surgery_happens_as_often_as_its_chance_says_and_never_after_the_stop():
    layer, changes = layer_of("surgery-gamma0.01-power1.5-stop0.5", gaussian(4, 30)), []
    hooks, mask = hooks_of(layer, 4000), layer.parametrizations.weight[0].mask
    torch.manual_seed(0)
    for step in range(4000):
        mask.fill_(0.75)  # neither 0 nor 1: surgery changes it
        hooks.on_step(step)
        changes.append(bool((mask != 0.75).any()))
    chance = np.array([(1 + 0.01 * i) ** -1.5 for i in range(1, 2000)])
    assert abs(sum(changes) - chance.sum()) < 3 * math.sqrt((chance * (1 - chance)).sum())
    assert not any(changes[1999:]) and any(changes[1000:])


@pytest.mark.parametrize("method", ["surgery", "memory_bounded"])
def test_a_layer_of_zeros_is_refused(method):
    with pytest.raises(SpaceError, match=f"{method}: the layer's weights are all zero"):
        layer_of(method, torch.zeros(40, 40))


def test_magnitude_in_rounds_keeps_the_same_share_each_time_and_ends_with_what_was_asked():
    weight = gaussian(25, 40)
    layer, counts = layer_of("magnitude-keep0.008-rounds3", weight), []
    hooks = hooks_of(layer, 60)
    for step in range(60):
        counts.append(int(layer.train().weight.count_nonzero()))
        hooks.on_step(step)
    assert counts == [200] * 20 + [40] * 20 + [8] * 20, "a fifth of 1000, of 200, of 40"


def test_each_round_removes_the_smallest_of_what_is_left_and_nothing_comes_back():
    layer = layer_of("magnitude-keep0.25-rounds2", gaussian(10, 20))
    hooks, first = hooks_of(layer, 10), set(layer.weight.flatten().nonzero().flatten().tolist())
    moved = gaussian(10, 20, 1)
    original(layer).data.copy_(moved)
    for step in range(10):
        hooks.on_step(step)
    left = sorted(first, key=lambda place: -abs(float(moved.flatten()[place])))[:50]
    assert set(layer.weight.flatten().nonzero().flatten().tolist()) == set(left)


def test_one_round_is_what_it_was():
    layer = layer_of("magnitude-keep0.3", gaussian(10, 20))
    assert not hasattr(layer.parametrizations.weight[0], "hooks")
    assert str(parse("compression", "magnitude-keep0.3-rounds1")) == "magnitude-keep0.3"


@pytest.mark.parametrize("rounds, steps", [(2, 1), (5, 3), (5, 7), (100, 10), (3, 0)])
def test_the_last_round_holds_however_short_the_training(rounds, steps):
    layer = layer_of(f"magnitude-keep0.1-rounds{rounds}", gaussian(20, 50))
    hooks = hooks_of(layer, steps)
    for step in range(steps):
        hooks.on_step(step)
    assert int(layer.eval().weight.count_nonzero()) == 100


def test_quality_is_in_standard_deviations_of_the_layer():
    weight = gaussian(30, 50)
    kept = layer_of("magnitude-quality1.5", weight).weight != 0
    assert np.array_equal(kept.numpy(), np.abs(weight.numpy()) >= 1.5 * weight.numpy().std())
    assert not parse("compression", "magnitude-quality1.5").shapes_fixed
    with pytest.raises(SpaceError, match="either the share to keep .* or a quality"):
        parse("compression", "magnitude-keep0.3-quality1.5")


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), budget=st.floats(0.04, 1), every=st.integers(1, 7), seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_stored_bytes_are_within_the_budget_whenever_training_ends(rows, columns, budget, every, seed):
    weight, token = gaussian(rows, columns, seed), f"memory_bounded-budget{budget:.3f}-every{every}"
    try:
        layer = layer_of(token, weight)
    except SpaceError as error:
        assert "no weight" in str(error)
        return
    limit, hooks = round(budget, 3) * 4 * (rows * columns + rows), hooks_of(layer, 12)
    for step in range(12):
        assert stored_bytes(layer) <= limit
        original(layer.train()).data += 0.3 * gaussian(rows, columns, seed + step)
        hooks.on_step(step)
    assert stored_bytes(layer) <= limit
    assert limit - stored_bytes(layer) < 4, "one more would not fit"


def test_projection_keeps_exactly_the_largest_and_forgets_the_others():
    layer = layer_of("memory_bounded-budget0.25-every3", gaussian(20, 30))
    count, hooks = (int(0.25 * 4 * 620) - 80 - 75) // 4, hooks_of(layer, 1000)
    for step in range(9):
        moved = original(layer).data + 0.5 * gaussian(20, 30, step)
        original(layer).data.copy_(moved)
        hooks.on_step(step)
        order = np.argsort(-np.abs(moved.numpy()), axis=None)[:count]
        expected = np.zeros(600, dtype="float32")
        expected[order] = moved.numpy().flatten()[order]
        if step % 3 == 2:
            np.testing.assert_array_equal(original(layer).numpy(force=True).flatten(), expected)
        else:
            np.testing.assert_array_equal(layer.train().weight.numpy(force=True), moved.numpy(), "all learn between projections")
        np.testing.assert_array_equal(layer.eval().weight.numpy(force=True).flatten(), expected)


def test_at_last_every_step_projects():
    layer = layer_of("memory_bounded-every1000", gaussian(20, 30))
    hooks, dense = hooks_of(layer, 100), []
    for step in range(100):
        original(layer.train()).data += 0.1 * gaussian(20, 30, step)
        hooks.on_step(step)
        dense.append(bool(layer.weight.all()))
    assert dense == [True] * 89 + [False] * 11


def test_a_layer_whose_budget_holds_no_weight_is_refused():
    with pytest.raises(SpaceError, match="0.04 of the layer's 720 bytes hold its bitmap and bias and no weight"):
        layer_of("memory_bounded-budget0.04", gaussian(20, 8))


@pytest.mark.parametrize("chain", ["surgery-keep0.2", "magnitude-keep0.2-rounds3", "memory_bounded-budget0.3-every3"])
@pytest.mark.parametrize("tail", ["", "+int8"])
def test_a_network_whose_masks_changed_in_training_deploys_to_what_it_computed(chain, tail, warm):
    """Behind batch norms that come back and are folded when it is frozen, before the run's last projection."""
    torch.manual_seed(0)
    candidate = Candidate.parse(f"conv:16/1 [*={chain}{tail}] mbconv-expand3:16/1 [*={chain}{tail}] classifier:5/1 [*={chain}{tail}]")
    network = build(candidate, SHAPE)
    warm(SHAPE)(network)
    graph = prepare(network, candidate.chains, Calibration.unlabelled(torch.randn(2, *SHAPE)), warm(SHAPE))
    run = Run(graph, None, None, 1, 30)
    hooks = [module.hooks(run) for module in graph.modules() if hasattr(module, "hooks")]
    optimiser = torch.optim.SGD(graph.parameters(), 0.05, momentum=0.9)
    for step in range(20):
        loss = nn.functional.cross_entropy(graph.train()(torch.randn(16, *SHAPE)), torch.randint(5, (16,)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        for part in hooks:
            part.on_step(step)
    for norm in (module for module in graph.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 2.0)
    x = torch.randn(32, *SHAPE)
    with torch.no_grad():
        expected = graph.eval()(x)
    assert len(hooks) == 5
    torch.testing.assert_close(freeze(graph)(x), expected, rtol=0, atol=(0.03 if tail else 1e-4) * float(expected.abs().max()))


@pytest.mark.parametrize("method", ["surgery", "magnitude-rounds2", "memory_bounded"])
def test_a_codebook_cannot_follow_a_mask_that_changes(method):
    with pytest.raises(SpaceError, match="training changes which weights are kept"):
        parse("compression", "codebook").prepare(layer_of(method, gaussian(20, 30)))
