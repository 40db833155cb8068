"""A residual network whose shortcut has no parameters, and its integer form."""

import torch
from torch import fx, nn

from spaces.compress import prepare
from spaces.freeze import freeze
from spaces.gene import parse
from spaces.site import Calibration

SHAPE = (3, 12, 12)


class Shortcut(nn.Module):
    """Its shortcut: every second pixel, among channels of `value` (He et al., 2016, option A)."""

    def __init__(self, value: float):
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 6, 3, 1, 1), nn.Conv2d(6, 11, 3, 2, 1), nn.Conv2d(11, 9, 3, 1, 1)
        self.pick, self.pad = nn.MaxPool2d(1, 2), nn.ConstantPad3d((0, 0, 0, 0, 2, 3), value)
        self.rectify, self.pool, self.flatten = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.dense = nn.Linear(9, 5)

    def forward(self, x):
        x = self.rectify(self.first(x))
        x = self.rectify(self.second(x) + self.pad(self.pick(x)))
        return self.dense(self.flatten(self.pool(self.rectify(self.third(x)))))


def integers(network: nn.Module, warm) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The network with int8 layers, run on images by `warm`, and its deployed form."""
    chains = {name: (parse("compression", "int8"),) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    graph = prepare(network, chains, Calibration.unlabelled(torch.randn(2, *SHAPE)), warm)
    return graph, freeze(graph)
