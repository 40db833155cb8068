"""Two convolutions fitted to the outputs of one: the error they are fitted to, and how far they get."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from spaces.compression.separable import bank, in_a_bank
from spaces.freeze import freeze
from spaces.gene import SpaceError, parse
from spaces.output_error import fitted, second_moments
from spaces.site import Calibration, Site
from spaces.trace import trace
from spaces.vertical_horizontal import composed, maps_for, nearest
from tests.spaces.convolutions import geometries, macs, with_weight


def pair_at(token: str, network: nn.Sequential, path: str, images: torch.Tensor) -> nn.Module:
    site = Site(network.get_submodule(path), path, trace(network), Calibration.unlabelled(images))
    return parse("compression", token).prepare_at(site)


@torch.no_grad()
def error(pair: nn.Module, layer: nn.Module, inputs: torch.Tensor) -> float:
    """The mean square error of the outputs of `pair`, part of the mean square of those of `layer`, without its bias."""
    outputs = layer(inputs)
    without = outputs if layer.bias is None else outputs - layer.bias[:, None, None]
    return float((pair(inputs) - outputs).square().mean() / without.square().mean())


@given(geometries())
@settings(max_examples=40, deadline=None)
def test_the_moments_give_the_mean_square_of_the_outputs(drawn):
    layer, x = drawn
    with torch.no_grad():
        outputs = functional.conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation).double()
    assume(outputs.any())  # some geometries see nothing but padding
    rows = layer.weight.detach().double().flatten(1)
    torch.testing.assert_close((rows @ second_moments(layer, x) @ rows.T).trace(), outputs.square().sum(1).mean(), rtol=1e-5, atol=1e-8)


@given(geometries(), st.floats(0.1, 0.9))
@settings(max_examples=40, deadline=None)
def test_the_fit_is_never_worse_on_its_images_than_the_nearest_weights(drawn, keep):
    layer, x = drawn
    weight, x = layer.weight.detach().double(), x.double()
    assume((with_weight(layer, weight)(x) - with_weight(layer, weight)(0 * x)).detach().any())
    maps = maps_for(weight, keep)
    close, fit = nearest(weight, maps), fitted(weight, second_moments(layer, x), maps)
    assert fit[0].shape == close[0].shape and fit[1].shape == close[1].shape
    reference = with_weight(layer, weight)
    found, start = (error(with_weight(layer, composed(*each)), reference, x) for each in (fit, close))
    assert found <= start * (1 + 1e-6) + 1e-9


@pytest.mark.parametrize("maps", [1, 4, 9])
def test_of_white_inputs_the_nearest_weights_are_the_best(maps):
    """There the error of the outputs is that of the weights, whose least is the singular tail."""
    torch.manual_seed(0)
    weight = torch.randn(8, 5, 3, 3, dtype=torch.float64)
    fit = fitted(weight, torch.eye(45, dtype=torch.float64), maps)
    least = (composed(*nearest(weight, maps)) - weight).square().sum()
    torch.testing.assert_close((composed(*fit) - weight).square().sum(), least, rtol=1e-9, atol=1e-12)


def test_maps_that_are_the_same_need_no_weights_of_their_own():
    """Inputs of 12 maps that are multiples of one: a convolution of one map, of which 3 columns suffice whatever its weights are."""
    torch.manual_seed(0)
    layer, inputs = nn.Conv2d(12, 16, 3, padding=1), torch.randn(64, 1, 8, 8) * torch.randn(12, 1, 1)
    network = nn.Sequential(layer)
    filtered, data = (pair_at(f"separable-keep0.1-objective_{objective}", network, "0", inputs) for objective in ("filter", "data"))
    assert filtered[0].out_channels == data[0].out_channels == 2
    assert pair_at("separable-keep0.15", network, "0", inputs)[0].out_channels == 3
    assert error(pair_at("separable-keep0.15", network, "0", inputs), layer, inputs) < 1e-4
    assert error(data, layer, inputs) < 0.5 * error(filtered, layer, inputs)


def test_the_filter_objective_is_the_closed_form():
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 10, 5, 2, 2)
    ours = pair_at("separable-objective_filter", nn.Sequential(layer), "0", torch.randn(2, 6, 9, 9))
    for one, other in zip(ours, parse("compression", "vh_lowrank").prepare(layer)):
        assert torch.equal(one.weight, other.weight)


@pytest.fixture(scope="module")
def digits():
    """A network trained on handwritten digits, images it was trained on, and others."""
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.from_numpy(images).float().reshape(-1, 1, 8, 8) / 8 - 1, torch.from_numpy(labels)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                            nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(),
                            nn.Linear(128, 10))
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(300):
        batch = torch.randint(1200, (64,))
        optimiser.zero_grad()
        functional.cross_entropy(network(images[batch]), labels[batch]).backward()
        optimiser.step()
    assert (network(images[1200:]).argmax(1) == labels[1200:]).float().mean() > 0.9
    return network.eval(), images[:400], images[1200:]


@pytest.mark.parametrize("keep", [0.5, 0.25, 0.15])
@pytest.mark.parametrize("path", ["0", "2", "5", "7"])
def test_on_images_it_never_saw_the_fit_to_outputs_beats_the_nearest_weights(path, keep, digits):
    """[57], on every convolution of a trained network, with as many maps."""
    network, seen, unseen = digits
    layer = network.get_submodule(path)
    filtered, data = (pair_at(f"separable-keep{keep}-objective_{objective}", network, path, seen) for objective in ("filter", "data"))
    inputs = network[: int(path)](unseen).detach()
    assert data[0].weight.shape == filtered[0].weight.shape
    assert error(data, layer, inputs) < error(filtered, layer, inputs)


@given(geometries(), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_a_bank_is_one_convolution_with_the_composed_weights(drawn, filters):
    layer, x = drawn
    n, c, height, width = layer.weight.shape
    v, h, a = (torch.randn(*shape, dtype=torch.float64) for shape in ((c, filters, height), (c, filters, width), (n, c, filters)))
    row = in_a_bank(layer, v, h, a)
    assume(row is not layer)
    torch.testing.assert_close(row.double()(x.double()), with_weight(layer, torch.einsum("cmy,cmx,ncm->ncyx", v, h, a))(x.double()),
                               rtol=1e-4, atol=1e-4)


def test_a_planted_bank_is_found_at_the_cost_of_the_formula():
    """[57], scheme 1: M C (2 d + N) multiply-accumulates a place; one map that no output reads."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(6, 20, 5, padding=2), torch.randn(2, 6, 9, 9)
    a = torch.randn(20, 6, 2)
    a[:, 3] = 0
    layer.weight.data = torch.einsum("cmy,cmx,ncm->ncyx", torch.randn(6, 2, 5), torch.randn(6, 2, 5), a)
    row = parse("compression", "separable-keep0.14-scheme1-objective_filter").prepare(layer)
    assert macs(row, x[:1]) == 81 * 2 * 6 * (2 * 5 + 20) and macs(layer, x[:1]) == 81 * 6 * 20 * 25
    assert [part.groups for part in row] == [6, 12, 1]
    torch.testing.assert_close(row(x), layer(x), rtol=1e-3, atol=1e-3)


def test_a_bank_freezes_to_what_it_computes_and_stores_less():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(6, 20, 5, 2, 2), torch.randn(2, 6, 9, 9)
    stored = layer.weight.numel() + 20
    row = nn.Sequential(parse("compression", "separable-keep0.2-scheme1-objective_filter").prepare(layer))
    frozen = freeze(row)
    with torch.no_grad():
        torch.testing.assert_close(frozen(x), row(x))
    assert sum(tensor.numel() for tensor in frozen.state_dict().values()) < 0.3 * stored


@pytest.mark.parametrize("maps", [1, 3])
def test_a_bank_for_one_output_is_the_nearest_there_is(maps):
    """Of one output the filters of a map are a matrix, of which the nearest sum of products is its singular value decomposition."""
    torch.manual_seed(0)
    weight = torch.randn(1, maps, 5, 5, dtype=torch.float64)
    v, h, a = bank(weight, 0.9)
    filters = v.shape[1]
    left_out = sum(torch.linalg.svdvals(weight[0, c])[filters:].square().sum() for c in range(maps))
    error = (torch.einsum("cmy,cmx,ncm->ncyx", v, h, a) - weight).square().sum()
    assert filters == 2
    torch.testing.assert_close(error, left_out, rtol=1e-5, atol=0)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_inputs_that_show_nothing_are_refused(value):
    with pytest.raises(SpaceError, match="what the images give the layer is not finite, or nothing but zeros"):
        pair_at("separable", nn.Sequential(nn.Conv2d(4, 4, 3)), "0", torch.full((2, 4, 5, 5), value))


def test_weights_of_zero_are_refused():
    layer = nn.Conv2d(4, 4, 3)
    nn.init.zeros_(layer.weight)
    with pytest.raises(SpaceError, match="separable: the weights are all zero"):
        pair_at("separable", nn.Sequential(layer), "0", torch.randn(2, 4, 5, 5))


@pytest.mark.parametrize("token", ["separable-keep0", "separable-keep2", "separable-objective_outputs", "separable-scheme1",
                                   "separable-scheme3-objective_filter"])
def test_values_that_mean_nothing_are_refused(token):
    with pytest.raises(SpaceError, match="separable"):
        parse("compression", token)
