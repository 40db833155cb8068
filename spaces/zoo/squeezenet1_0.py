"""SqueezeNet 1.0 (Iandola et al., 2016, table 1)."""

from torch import nn

from spaces.blocks.fire import Fire

STAGES = (((16, 128), (16, 128), (32, 256)), ((32, 256), (48, 384), (48, 384), (64, 512)), ((64, 512),))


def network(size: int, classes: int) -> nn.Module:
    """A 7x7 stem, fire modules with a max-pool in front of the first, fourth and eighth, a 1x1 convolution to the classes."""
    modules: list[nn.Module] = [nn.Conv2d(3, 96, 7, 1, 3) if size <= 64 else nn.Conv2d(3, 96, 7, 2), nn.ReLU()]
    inputs = 96
    for stage in STAGES:
        modules.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        for squeeze, width in stage:
            modules.append(Fire(squeeze=squeeze / width).build(inputs, width, 1))
            inputs = width
    head = [nn.Dropout(), nn.Conv2d(inputs, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*modules, *head)
