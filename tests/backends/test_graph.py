"""Reading exported networks: layouts, and what becomes one kernel."""

import pytest
import torch
from torch import nn

from backends.fusion import groups_of
from backends.graph import read
from backends.lowering import served_on
from backends.target import load
from spaces.fold import exported


def groups(network: nn.Module, shape=(1, 3, 12, 12)):
    """The kernels of a network."""
    return groups_of(read(exported(network, torch.randn(shape)), served_on(load("local"))))


def described(found) -> list[list[str]]:
    """Each kernel's parts, as op+steps."""
    return [["+".join([p.workload.op, *(s.op for s in p.workload.then)]) for p in group.parts] for group in found]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        return torch.relu(x + self.inner(x)).mean()


class Fire(nn.Module):
    def __init__(self, shared: bool):
        super().__init__()
        self.squeeze, self.left, self.right = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(4, 5, 3, padding=1)
        self.shared = shared

    def forward(self, x):
        x = self.squeeze(x)
        left = torch.relu(self.left(x))
        both = torch.cat([left, torch.relu(self.right(x))], 1)
        return both[:, :6] * left if self.shared else both


def test_a_residual_sum_and_its_rectifier_join_the_later_convolution():
    assert described(groups(Residual()))[:2] == [["conv2d"], ["conv2d+add+relu"]]


def test_a_concatenation_is_written_in_place_by_its_operands():
    found = groups(Fire(shared=False))
    assert described(found)[:2] == [["conv2d"], ["conv2d+relu", "conv2d+relu"]]
    assert [part.channel for part in found[1].parts] == [0, 6]


def test_an_operand_that_others_read_too_is_copied_into_the_concatenation():
    ops = described(groups(Fire(shared=True)))
    assert ["conv2d+relu"] in ops and ["clone", "conv2d+relu"] in ops


def test_images_lie_channels_last_and_only_a_flattened_map_changes_layout():
    pooled = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    flat = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(800, 5))
    assert not any("clone" in parts for parts in described(groups(pooled)))
    assert sum("clone" in parts for parts in described(groups(flat))) == 1
    assert groups(flat)[0].out.layout == "channels_last"


def test_dropout_and_identities_cost_nothing():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(), nn.ReLU(), nn.Conv2d(8, 4, 1))
    assert described(groups(network))[0] == ["conv2d+relu"]


@pytest.mark.parametrize("activation", [nn.ReLU6(), nn.Hardswish(), nn.SiLU(), nn.Hardsigmoid(), nn.Sigmoid()])
def test_activations_run_in_the_kernel_before_them(activation):
    found = described(groups(nn.Sequential(nn.Conv2d(3, 8, 3), activation)))
    assert len(found[0]) == 1 and found[0][0].startswith("conv2d+")
