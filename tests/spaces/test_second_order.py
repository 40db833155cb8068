"""Pruning by what the loss does: predicted against measured, and against solving again without the removed weights."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from spaces.compression.obd import saliency
from spaces.gene import SpaceError, parse
from spaces.site import Calibration, Site
from spaces.trace import trace

DECAY = 1e-3


@pytest.fixture(scope="module")
def digits():
    """Every second of the digits as a row of 64, and their classes."""
    bunch = load_digits()
    images = torch.tensor(bunch.data[::2] / 16)
    return (images - images.mean()) / images.std(), torch.tensor(bunch.target[::2])


def loss_of(network, images, labels):
    """What the network below was trained for."""
    return functional.cross_entropy(network(images), labels) + DECAY / 2 * sum(p.square().sum() for p in network.parameters())


@pytest.fixture(scope="module")
def converged(digits):
    """A network 64-32-10 at a minimum of its loss, in float64."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).double()
    optimiser = torch.optim.LBFGS(network.parameters(), max_iter=2000, history_size=30, line_search_fn="strong_wolfe",
                                  tolerance_grad=7e-6, tolerance_change=0)

    def closure():
        optimiser.zero_grad()
        loss = loss_of(network, *digits)
        loss.backward()
        return loss
    optimiser.step(closure)
    assert sum(p.grad.square().sum() for p in network.parameters()).sqrt() < 1e-4
    return network


def site(network: nn.Module, path: str, images: torch.Tensor, labels: torch.Tensor | None = None) -> Site:
    calibration = Calibration.unlabelled(images) if labels is None else Calibration(images, labels)
    return Site(network.get_submodule(path), path, trace(network), calibration)


def test_saliencies_predict_what_deletions_do_to_the_loss_and_better_than_magnitudes(converged, digits):
    """[8]: 500 single deletions at a minimum. The decay is known, and its part of the loss goes with the weight."""
    weights = [converged[i].weight for i in (0, 2)]
    predicted = torch.cat([(saliency(site(converged, str(i), *digits)) + DECAY * converged[i].weight.detach() ** 2 / 2).flatten()
                           for i in (0, 2)])
    chosen = torch.randperm(len(predicted), generator=torch.Generator().manual_seed(0))[:500]
    with torch.no_grad():
        whole, changes = loss_of(converged, *digits).item(), []
        for number in chosen.tolist():
            row = weights[0].view(-1) if number < 2048 else weights[1].view(-1)
            kept, row[number % 2048] = row[number % 2048].item(), 0
            changes.append(loss_of(converged, *digits).item() - whole)
            row[number % 2048] = kept
    magnitude = torch.cat([weight.detach().abs().flatten() for weight in weights])[chosen]
    assert pearsonr(predicted[chosen], changes).statistic >= 0.9
    assert spearmanr(predicted[chosen], changes).statistic > spearmanr(magnitude, changes).statistic


def test_obd_keeps_the_weights_of_largest_curvature_times_square():
    """Of one layer the Hessian is known: the mean over images of p (1 - p) x^2."""
    torch.manual_seed(0)
    network, images = nn.Sequential(nn.Linear(9, 4)), torch.randn(60, 9) * torch.linspace(0.1, 3, 9)
    p = network(images).softmax(1).detach()
    scores = ((p * (1 - p)).T @ images**2 / 60 * network[0].weight.detach() ** 2).flatten()
    largest = set(scores.topk(11).indices.tolist())
    assert largest != set(network[0].weight.detach().abs().flatten().topk(11).indices.tolist())
    layer = parse("compression", "obd-keep0.3").prepare_at(site(network, "0", images))
    assert set(layer.weight.flatten().nonzero().flatten().tolist()) == largest


def test_of_weights_that_no_image_reaches_the_larger_stay():
    network = nn.Sequential(nn.Linear(10, 3))
    largest = network[0].weight.detach().abs().flatten().topk(6).indices
    layer = parse("compression", "obd-keep0.2").prepare_at(site(network, "0", torch.zeros(5, 10)))
    assert set(layer.weight.flatten().nonzero().flatten().tolist()) == set(largest.tolist())


@pytest.mark.parametrize("token", ["obd-keep0.3"])
@pytest.mark.parametrize("layer", [nn.Linear(12, 7), nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2), nn.Conv2d(4, 4, 3, dilation=2, groups=4)])
def test_training_never_revives_what_was_removed(token, layer):
    torch.manual_seed(0)
    images = torch.randn(8, 12) if isinstance(layer, nn.Linear) else torch.randn(8, layer.in_channels, 9, 9)
    network = nn.Sequential(layer, nn.ReLU(), nn.Flatten())
    layer = parse("compression", token).prepare_at(site(network, "0", images))
    kept = layer.weight.detach() != 0
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(5):
        network(images).square().mean().backward()
        optimiser.step()
    assert torch.equal(layer.weight != 0, kept) and int(kept.sum()) == round(0.3 * kept.numel())
    assert parametrize.is_parametrized(layer, "weight")


def test_a_curvature_that_is_not_finite_is_named():
    network = nn.Sequential(nn.Linear(4, 3))
    network[0].weight.data.fill_(1e30)
    with pytest.raises(SpaceError, match="obd: the curvature is not finite"):
        parse("compression", "obd").prepare_at(site(network, "0", torch.full((2, 4), 1e20)))


@pytest.mark.parametrize("token", ["obd"])
def test_weights_that_share_numbers_are_refused(token):
    network = nn.Sequential(parse("compression", "circulant-block4").prepare(nn.Linear(8, 8)))
    with pytest.raises(SpaceError, match="share numbers already"):
        parse("compression", token).prepare_at(site(network, "0", torch.randn(4, 8)))
