"""Steps of least squared error: published ratios, brute force over steps, and what `intn` does with them."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

import spaces.ops
from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import prepare
from spaces.freeze import freeze
from spaces.gene import SpaceError, parse
from spaces.norms import takes_up
from spaces.site import Calibration
from spaces.uniform_steps import best_step, error, least_steps

spaces.ops.register_all()
SHAPE = (3, 12, 12)
STEPS = ["mse", "gaussian", "laplace"]


def drawn(density: str, *shape: int, seed: int = 0) -> torch.Tensor:
    """Random numbers of unit variance."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=shape) if density == "gaussian" else rng.laplace(scale=0.5**0.5, size=shape)).float()


def layer_of(token: str, weight: torch.Tensor):
    """A dense layer with these weights, compressed, that has seen inputs of -1 to 1."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data = weight.clone()
    layer = parse("compression", token).prepare(layer)
    layer.low.fill_(-1.0)
    layer.high.fill_(1.0)
    return layer


def squares(weight: torch.Tensor, step: np.ndarray, most: int) -> np.ndarray:
    """By row, the mean squared error in these steps [rows, 1]."""
    w = weight.double().numpy()
    return ((w - step * np.clip(np.rint(w / step), -most, most)) ** 2).mean(1)


@pytest.mark.parametrize("bits, ratio", [*enumerate([4.40, 9.25, 14.27, 19.38, 24.57, 29.83, 35.17, 40.57], 1)])
def test_a_gaussian_has_the_published_ratios(bits, ratio):
    """[27], Max (1960): signal to quantisation noise in dB with 2^bits levels."""
    assert -10 * math.log10(error("gaussian", 2**bits, best_step("gaussian", 2**bits))) == pytest.approx(ratio, abs=0.05)


@pytest.mark.parametrize("density, step, ratio", [("gaussian", 2 * math.sqrt(2 / math.pi), -10 * math.log10(1 - 2 / math.pi)),
                                                  ("laplace", math.sqrt(2), -10 * math.log10(0.5))])
def test_two_levels_are_the_mean_magnitudes(density, step, ratio):
    """In closed form: levels at +-E |x|, error 1 - (E |x|)^2."""
    assert best_step(density, 2) == pytest.approx(step, rel=1e-3)
    assert -10 * math.log10(error(density, 2, best_step(density, 2))) == pytest.approx(ratio, abs=0.005)


@pytest.mark.parametrize("density", ["gaussian", "laplace"])
@pytest.mark.parametrize("levels", [3, 4, 7, 15, 16, 63])
def test_the_error_is_the_integral_over_the_density_and_no_other_step_has_less(density, levels):
    step, of = best_step(density, levels), stats.norm() if density == "gaussian" else stats.laplace(scale=0.5**0.5)
    allowed = step * (np.arange(levels) - (levels - 1) / 2)
    ends = [-30, *(allowed[1:] + allowed[:-1]) / 2, 0, 30]
    found = sum(integrate.quad(lambda x: np.abs(x - allowed).min() ** 2 * of.pdf(x), low, high)[0] for low, high in pairwise(sorted(ends)))
    assert error(density, levels, step) == pytest.approx(found, rel=1e-3)
    assert all(error(density, levels, step * factor) > error(density, levels, step) for factor in (0.9, 0.97, 1.03, 1.1))


@pytest.mark.parametrize("density", ["gaussian", "laplace"])
@pytest.mark.parametrize("bits", range(2, 8))
def test_steps_of_the_weights_own_error_are_nearly_the_best_of_all_and_better_than_the_range(density, bits):
    weight, most = drawn(density, 20, 900), 2 ** (bits - 1) - 1
    largest = weight.abs().amax(1, keepdim=True).double().numpy() / most
    least = np.min([squares(weight, largest * share, most) for share in np.linspace(0.05, 1, 800)], axis=0)
    found = squares(weight, layer_of(f"intn-bits{bits}-step_mse", weight).weight_scale().double().numpy()[:, None], most)
    assert np.all(found <= 1.1 * least) and found.mean() <= 1.03 * least.mean()
    assert found.mean() < squares(weight, largest, most).mean()


@pytest.mark.parametrize("density", ["gaussian", "laplace"])
@pytest.mark.parametrize("bits", [2, 4, 6])
def test_fitted_steps_have_nearly_the_least_error_of_weights_of_their_density(density, bits):
    weight, most = drawn(density, 2, 400_000), 2 ** (bits - 1) - 1
    fitted, own = (squares(weight, layer_of(f"intn-bits{bits}-step_{step}", weight).weight_scale().double().numpy()[:, None], most).mean()
                   for step in (density, "mse"))
    assert fitted <= 1.03 * own
    expected = error(density, 2 * most + 1, best_step(density, 2 * most + 1))
    assert -10 * math.log10(fitted) == pytest.approx(-10 * math.log10(expected), abs=0.2)


def test_a_density_is_fitted_to_the_weights_that_are_not_masked():
    weight = drawn("gaussian", 3, 400)
    masked = torch.where(torch.arange(400) % 2 == 0, weight, 0)
    torch.testing.assert_close(layer_of("intn-step_gaussian", masked).weight_scale(),
                               layer_of("intn-step_gaussian", weight[:, ::2]).weight_scale())


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("factor", [1e-30, 1e-6, 1e6])
def test_steps_scale_with_the_weights(step, factor):
    weight = drawn("laplace", 5, 60)
    small, plain = (layer_of(f"intn-step_{step}", w).weight_scale() for w in (weight * factor, weight))
    torch.testing.assert_close(small / factor, plain, rtol=1e-4, atol=0)


@pytest.mark.parametrize("most", [1, 3, 7, 31, 63])
def test_weights_that_are_whole_steps_keep_their_steps(most):
    generator = torch.Generator().manual_seed(most)
    steps = torch.randint(-most, most + 1, (20, 60), generator=generator).float()
    steps[:, 7] = most
    scale = torch.rand(20, generator=generator) + 0.1
    torch.testing.assert_close(least_steps(steps * scale[:, None], most), scale, rtol=1e-5, atol=0)


@pytest.mark.parametrize("step", STEPS)
def test_what_is_stored_is_what_was_trained_on(step):
    weight = drawn("laplace", 7, 45)
    weight[3] = 0
    layer = layer_of(f"intn-bits3-step_{step}", weight)
    frozen = layer.deploy(None, -math.inf, math.inf).tensors
    form = frozen["weight"]
    steps = torch.ops.netwright.unpack_bits(form.arguments["packed"], 3, list(weight.shape))
    torch.testing.assert_close(steps * (frozen["scale"] / layer.wanted().scale)[:, None], layer.realised(), rtol=1e-5, atol=1e-7)
    assert not steps[3].any() and steps.abs().max() == 3


@pytest.mark.parametrize("step", STEPS)
def test_weights_that_are_not_finite_are_refused(step):
    weight = drawn("gaussian", 4, 30)
    weight[2, 5] = float("nan")
    with pytest.raises(SpaceError, match="intn: the weights of channel 2 have scale nan"):
        layer_of(f"intn-step_{step}", weight).deploy(None, -math.inf, math.inf)


@pytest.mark.parametrize("step, comes", [("mse", True), ("gaussian", False), ("laplace", False)])
def test_a_network_with_such_steps_deploys_to_what_it_computed(step, comes, warm):
    torch.manual_seed(0)
    candidate = Candidate.parse("conv:8/1 [*=intn-step_{0}] mbconv-expand2:8/1 [*=magnitude+intn-step_{0}] classifier:5/1".format(step))
    network = build(candidate, SHAPE)
    warm(SHAPE)(network)
    graph = prepare(network, candidate.chains, Calibration.unlabelled(torch.randn(2, *SHAPE)), warm(SHAPE))
    optimiser = torch.optim.SGD(graph.parameters(), 0.05)
    for _ in range(5):
        loss = nn.functional.cross_entropy(graph.train()(torch.randn(16, *SHAPE)), torch.randint(5, (16,)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x = torch.randn(32, *SHAPE)
    with torch.no_grad():
        expected = graph.eval()(x)
    assert takes_up(graph.get_submodule("layers.0.conv")) == comes
    torch.testing.assert_close(freeze(graph)(x), expected, rtol=0, atol=0.03 * float(expected.abs().max()))
