"""What a compression sees of a network: activations, gradients and curvature, compared with autograd."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from spaces.build import build
from spaces.candidate import Candidate
from spaces.site import COLUMNS, Calibration, Site
from spaces.trace import trace

SHAPE = (3, 8, 8)


def site(network: nn.Module, path: str, images: torch.Tensor, labels: torch.Tensor | None = None) -> Site:
    labels = torch.randint(3, (len(images),)) if labels is None else labels
    return Site(network.get_submodule(path), path, trace(network), Calibration(images, labels))


def trained(warm) -> nn.Module:
    torch.manual_seed(0)
    network = build(Candidate.parse("conv:6/1 mbconv-expand2-se0.25:6/1 fire-norm_batch:8/2 classifier:3/1"), SHAPE)
    warm(SHAPE)(network)
    return network.eval()


@pytest.mark.parametrize("path", ["layers.0.conv", "layers.1.depthwise", "layers.2.expand3x3", "layers.3.dense"])
def test_inputs_and_outputs_are_what_the_layer_is_given_and_gives(path, warm):
    network, images = trained(warm), torch.randn(300, *SHAPE)
    at = site(network, path, images)
    with torch.no_grad():
        torch.testing.assert_close(at.layer(at.inputs), at.outputs)
        assert len(at.inputs) == 300


def test_maps_are_read_behind_the_norm_and_the_activation_and_no_further(warm):
    network, images = trained(warm), torch.randn(20, *SHAPE)
    with torch.no_grad():
        expected = network.layers[0](images)
    torch.testing.assert_close(site(network, "layers.0.conv", images).maps, expected)
    project = site(network, "layers.1.project", images)
    assert (project.maps < 0).any(), "a sum comes behind this layer's norm, no activation"


def test_gradients_of_maps_are_those_of_each_image_alone(warm):
    network, images, labels = trained(warm), torch.randn(5, *SHAPE), torch.tensor([0, 1, 2, 0, 1])
    found = site(network, "layers.0.conv", images, labels).map_gradients
    for number in range(5):
        maps = network.layers[0](images[number:number + 1]).detach().requires_grad_(True)
        rest = maps
        for layer in network.layers[1:]:
            rest = layer(rest)
        expected, = torch.autograd.grad(functional.cross_entropy(rest, labels[number:number + 1]), maps)
        torch.testing.assert_close(found[number], expected[0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("layer, shape", [
    (partial(nn.Linear, 7, 4), (7,)), (partial(nn.Conv2d, 4, 6, 3, stride=2, padding=1, groups=2), (4, 5, 5)),
    (partial(nn.Conv2d, 4, 4, (3, 1), dilation=2, groups=4), (4, 7, 3))])
def test_curvature_is_the_diagonal_of_the_gauss_newton_matrix(layer, shape):
    torch.manual_seed(0)
    layer = layer()
    network = nn.Sequential(layer, nn.ReLU(), nn.Flatten())
    images = torch.randn(9, *shape)
    found = site(network, "0", images).curvature
    expected = torch.zeros_like(layer.weight)
    for image in images:
        logits = network(image[None])[0]
        p = logits.softmax(0).detach()
        jacobian = torch.stack([torch.autograd.grad(z, layer.weight, retain_graph=True)[0] for z in logits]).flatten(1)
        expected += ((torch.diag(p) - torch.outer(p, p)) @ jacobian * jacobian).sum(0).view(layer.weight.shape) / len(images)
    if logits.numel() <= COLUMNS:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8)
    else:
        assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.9
        torch.testing.assert_close(found.sum(), expected.sum(), rtol=0.25, atol=0)


def test_curvature_of_a_single_layer_is_the_diagonal_of_the_hessian():
    torch.manual_seed(0)
    network, images, labels = nn.Sequential(nn.Linear(6, 4)), torch.randn(50, 6), torch.randint(4, (50,))

    def loss(weight):
        return functional.cross_entropy(images @ weight.view(4, 6).T + network[0].bias, labels)
    hessian = torch.autograd.functional.hessian(loss, network[0].weight.detach().flatten())
    torch.testing.assert_close(site(network, "0", images, labels).curvature.flatten(), hessian.diagonal(), rtol=1e-5, atol=1e-8)


def test_looking_leaves_the_layer_as_it_was(warm):
    network = trained(warm)
    at = site(network, "layers.2.squeeze", torch.randn(4, *SHAPE))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    at.curvature, at.maps, at.map_gradients
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not at.layer._forward_hooks and all(p.grad is None for p in network.parameters())
