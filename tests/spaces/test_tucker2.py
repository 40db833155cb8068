"""Tucker-2 and the ranks it takes: planted ranks, the factors, what they compute and cost."""

import numpy as np
import pytest
import tensorly
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from tensorly.tenalg import multi_mode_dot
from torch import nn

from spaces.compression.tucker2 import tucker
from spaces.evbmf import rank_of
from spaces.gene import SpaceError, parse
from spaces.site import Calibration, Site
from spaces.trace import trace
from tests.spaces.convolutions import geometries, macs, with_weight


def decomposed(token: str, layer: nn.Module) -> nn.Module:
    return parse("compression", token).prepare(layer)


def noisy(shape: tuple[int, int], rank: int, snr: float, seed: int) -> np.ndarray:
    """A product of two normal matrices of variance 1, and noise of variance 1 / snr."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    return signal / signal.std() + rng.standard_normal(shape) / np.sqrt(snr)


@pytest.mark.parametrize("snr", [30, 10, 3])
@pytest.mark.parametrize("shape", [(64, 576), (576, 64), (40, 200), (100, 100)])
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_rank_is_found_under_noise_whose_variance_nobody_tells(shape, snr, seed):
    assert rank_of(noisy(shape, 8, snr, seed)) == 8
    assert rank_of(1e-3 * noisy(shape, 8, snr, seed)) == 8


@pytest.mark.parametrize("shape", [(64, 576), (20, 20), (3, 40), (1, 5), (7, 1), (2, 2)])
def test_noise_has_no_rank_and_a_product_without_noise_its_own(shape):
    assert rank_of(np.random.default_rng(0).standard_normal(shape)) == 0
    assert rank_of(noisy((40, 90), 8, np.inf, 0)) == 8


@pytest.mark.parametrize("alpha", [1, 0.4, 0.05])
@pytest.mark.parametrize("beside", [0.95, 1.05])
def test_a_component_is_kept_where_the_free_energy_of_its_posterior_is_below_that_of_none(alpha, beside):
    """The energy of Gaussian posteriors (means a, b, variances s, t) with the best priors, minimised by descent from several sides."""
    from spaces.evbmf import _threshold

    long, short = 200.0, 200.0 * alpha
    gamma = np.sqrt(beside * long * _threshold(alpha))

    def energy(logs):
        a, b, s, t = np.exp(logs)
        return (long * np.log1p(a**2 / (long * s)) + short * np.log1p(b**2 / (short * t))
                - 2 * a * b * gamma + (a**2 + long * s) * (b**2 + short * t))
    starts = [[np.log(x * gamma)] * 2 + [-np.log(x * gamma)] * 2 for x in (0.3, 0.5, 0.7, 0.9)] + [[np.log(gamma) / 2] * 2 + [-5, -5]]
    options = {"maxiter": 4000, "xatol": 1e-9, "fatol": 1e-9}
    with np.errstate(all="ignore"):  # a variance of nothing
        least = min(minimize(energy, start, method="Nelder-Mead", options=options).fun for start in starts)
    assert (least < -1e-6) == (beside > 1)


@given(geometries(), st.floats(0.2, 1))
@settings(max_examples=50, deadline=None)
def test_the_row_is_one_convolution_with_the_composed_weights(drawn, ratio):
    layer, x = drawn
    row = decomposed(f"tucker2-ratio{ratio:.3f}", layer)
    assume(row is not layer and layer.kernel_size != (1, 1))
    product = torch.eye(layer.in_channels)[:, :, None, None]
    for part in row:
        product = torch.einsum("oiyx,icab->ocyaxb", part.weight, product).flatten(4, 5).flatten(2, 3)  # one of both is 1x1
    torch.testing.assert_close(row.double()(x.double()), with_weight(layer, product.detach())(x.double()), rtol=1e-4, atol=1e-5)


def test_a_planted_core_is_found_by_the_ranks_of_variational_bayes():
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 40, 3, padding=1)
    weight = torch.einsum("pqyx,np,cq->ncyx", torch.randn(6, 5, 3, 3), torch.randn(40, 6), torch.randn(32, 5))
    layer.weight.data = weight + 0.05 * weight.std() * torch.randn_like(weight)
    row, x = decomposed("tucker2", layer), torch.randn(2, 32, 9, 9)
    assert [part.weight.shape for part in row] == [(5, 32, 1, 1), (6, 5, 3, 3), (40, 6, 1, 1)]
    with torch.no_grad():
        clean, found = with_weight(layer, weight)(x.double()), row.double()(x.double())
    assert float((found - clean).norm() / clean.norm()) < 0.02


@pytest.mark.parametrize("weaken, ranks", [("0.9", (8, 9)), ("0.8", (10, 13)), ("0.7", (13, 16))])
def test_weakened_ranks_remove_less(weaken, ranks):
    """Of 32 - 5 and 40 - 6 channels that would go, a share of 0.9, 0.8, 0.7 goes."""
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 40, 3)
    layer.weight.data = torch.einsum("pqyx,np,cq->ncyx", torch.randn(6, 5, 3, 3), torch.randn(40, 6), torch.randn(32, 5))
    layer.weight.data += 0.05 * torch.randn_like(layer.weight) * layer.weight.std()
    row = decomposed(f"tucker2-weaken{weaken}", layer)
    assert (row[0].out_channels, row[1].out_channels) == ranks


@pytest.mark.parametrize("ranks", [(4, 3), (7, 2), (1, 1), (12, 9)])
def test_the_iteration_is_no_worse_than_the_truncated_higher_order_svd(ranks):
    torch.manual_seed(0)
    weight = torch.randn(12, 9, 3, 3, dtype=torch.float64)
    bases = [torch.linalg.svd(weight.transpose(0, mode).flatten(1))[0][:, :rank] for mode, rank in enumerate(ranks)]
    projected = torch.einsum("ncyx,np,cq->pqyx", weight, *bases)
    hosvd = float((torch.einsum("pqyx,np,cq->ncyx", projected, *bases) - weight).norm())
    core, outputs, inputs = tucker(weight, *ranks)
    outputs, inputs = (torch.eye(12) if outputs is None else outputs), (torch.eye(9) if inputs is None else inputs)
    found = multi_mode_dot(core.numpy(), [outputs.double().numpy(), inputs.double().numpy()], modes=[0, 1])
    error = float(tensorly.norm(found - weight.numpy()))
    assert error <= hosvd * (1 + 1e-12) + 1e-12
    if ranks in ((4, 3), (7, 2)):
        assert error < 0.999 * hosvd, "the iteration does something"


def test_ranks_that_the_other_mode_and_the_kernel_do_not_leave_are_not_kept():
    torch.manual_seed(0)
    core, outputs, inputs = tucker(torch.randn(40, 9, 1, 3, dtype=torch.float64), 20, 2)
    assert core.shape == (6, 2, 1, 3) and outputs.shape == (40, 6) and inputs.shape == (9, 2)


@pytest.mark.parametrize("token", ["tucker2", "tucker2-ratio0.4"])
def test_it_is_the_same_each_time(token):
    torch.manual_seed(0)
    layer = nn.Conv2d(20, 30, 3)
    for one, other in zip(decomposed(token, layer), decomposed(token, layer)):
        assert torch.equal(one.weight, other.weight)


def test_the_work_is_that_of_the_formula():
    """[68]: C R3 + d^2 R3 R4 + R4 N weights, and as many multiply-accumulates a place."""
    torch.manual_seed(0)
    layer = nn.Conv2d(20, 30, 3, padding=1)
    row = decomposed("tucker2-ratio0.5", layer)
    weights = 20 * 10 + 9 * 10 * 15 + 15 * 30
    assert sum(part.weight.numel() for part in row) == weights
    assert macs(row, torch.randn(1, 20, 8, 8)) == 64 * weights
    strided = decomposed("tucker2-ratio0.5", nn.Conv2d(20, 30, 3, 2, 1))
    assert macs(strided, torch.randn(1, 20, 8, 8)) == 64 * 20 * 10 + 16 * (9 * 10 * 15 + 15 * 30)
    assert [part.bias is None for part in row] == [True, True, False] and row[2].bias is layer.bias


def test_a_layer_that_reads_the_images_keeps_its_inputs():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
    method = parse("compression", "tucker2-ratio0.5")
    first, later = (method.prepare_at(Site(network[int(path)], path, trace(network), Calibration.unlabelled(torch.randn(2, 3, 9, 9))))
                    for path in ("0", "2"))
    assert [part.weight.shape for part in first] == [(8, 3, 3, 3), (16, 8, 1, 1)]
    assert [part.weight.shape for part in later] == [(8, 16, 1, 1), (8, 8, 3, 3), (16, 8, 1, 1)]


@pytest.mark.parametrize("layer", [nn.Linear(60, 40), nn.Conv2d(60, 40, 1, 2)])
def test_matrices_become_two_of_the_rank_of_variational_bayes(layer):
    torch.manual_seed(0)
    signal = torch.from_numpy(noisy((40, 60), 4, np.inf, 0)).float()
    layer.weight.data = (signal + 0.1 * torch.randn(40, 60)).reshape(layer.weight.shape)
    pair = decomposed("tucker2", layer)
    product = pair[1].weight.flatten(1) @ pair[0].weight.flatten(1)
    left_out = torch.linalg.svdvals(layer.weight.detach().flatten(1))[4:].square().sum().sqrt()
    assert len(pair) == 2 and len(pair[0].weight) == 4
    assert float((product - layer.weight.flatten(1)).detach().norm()) == pytest.approx(float(left_out), rel=1e-4)


def test_a_layer_stays_dense_where_the_parts_would_not_be_smaller():
    for layer in (nn.Conv2d(8, 8, 3), nn.Linear(8, 8), nn.Conv2d(8, 8, 1)):
        assert decomposed("tucker2-ratio1", layer) is layer


@pytest.mark.parametrize("layer, words", [(nn.Conv2d(4, 4, 3, groups=2), "2 groups"), (nn.Conv2d(4, 4, 3, padding="same"), "padding")])
def test_what_cannot_be_decomposed_is_refused_by_name(layer, words):
    with pytest.raises(SpaceError, match=f"tucker2: .*{words}"):
        decomposed("tucker2", layer)


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 4, 3), nn.Linear(4, 4)])
@pytest.mark.parametrize("value, words", [(0.0, "all zero"), (float("nan"), "not finite")])
def test_weights_that_mean_nothing_are_refused(layer, value, words):
    nn.init.constant_(layer.weight, value)
    with pytest.raises(SpaceError, match=f"tucker2: the weights are {words}"):
        decomposed("tucker2", layer)


def test_factors_that_float32_cannot_hold_are_refused():
    layer = nn.Conv2d(6, 6, 3)
    nn.init.constant_(layer.weight, 3e38)
    with pytest.raises(SpaceError, match="a factor's weights reach .*, which float32 cannot hold"):
        decomposed("tucker2-ratio0.5", layer)


@pytest.mark.parametrize("token", ["tucker2-ratio1.1", "tucker2-weaken0", "tucker2-weaken2"])
def test_values_that_mean_nothing_are_refused(token):
    with pytest.raises(SpaceError, match="tucker2"):
        parse("compression", token)
