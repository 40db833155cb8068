"""The zoo: published sizes, and batch norms folded away."""

import pytest
import torch
from torch import nn

from spaces import zoo
from spaces.fold import exported
from spaces.gene import SpaceError

# Parameters with 1,000 classes as the papers' reference implementations count them; ResNet-20 with 10 classes:
# 269,722 with option A, and two 1x1 convolutions with their norms (16*32 + 64, 32*64 + 128) for option B.
PARAMETERS = {"squeezenet1_0": 1_248_424, "squeezenet1_1": 1_235_496, "mobilenet_v1": 4_231_976, "mobilenet_v2": 3_504_872,
              "mobilenet_v3_small": 2_542_856, "resnet20": 269_722 + 512 + 64 + 2048 + 128}


@pytest.mark.parametrize("name", zoo.names())
def test_a_network_has_the_published_number_of_parameters(name):
    network = zoo.network(name, 32, 10 if name == "resnet20" else 1000)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", zoo.names())
def test_activations_neither_vanish_nor_explode(name):
    """Otherwise a comparison of outputs compares biases alone."""
    network = zoo.network(name, 32, 10)
    torch.manual_seed(1)
    with torch.no_grad():
        first, second = network(torch.randn(1, 3, 32, 32)), network(torch.randn(1, 3, 32, 32))
    assert 1e-3 < float((first - second).abs().max()) < 1e3 and first.shape == (1, 10)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet20"])
def test_folding_removes_every_batch_norm_and_changes_nothing(name):
    network, image = zoo.network(name, 32, 10), torch.randn(1, 3, 32, 32)
    program = exported(network, image)
    assert not any("batch_norm" in str(node.target) for node in program.graph.nodes)
    assert torch.allclose(program.module()(image), network(image), rtol=1e-4, atol=1e-5)


def test_a_norm_without_a_layer_in_front_of_it_is_left(tmp_path):
    network, image = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)).eval(), torch.randn(1, 3, 5, 5)
    program = exported(network, image)
    assert any("batch_norm" in str(node.target) for node in program.graph.nodes)
    assert torch.allclose(program.module()(image), network(image), atol=1e-6)


def test_an_unknown_network_is_named():
    with pytest.raises(SpaceError, match="'alexnet'; known: mobilenet_v1"):
        zoo.network("alexnet", 32, 10)
