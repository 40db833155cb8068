"""SqueezeNet 1.1 (Iandola et al., 2016, and the authors' release 1.1 with 2.4 times fewer operations)."""

from torch import nn

from spaces.blocks.fire import Fire

STAGES = (((16, 128), (16, 128)), ((32, 256), (32, 256)), ((48, 384), (48, 384), (64, 512), (64, 512)))


def network(size: int, classes: int) -> nn.Module:
    """A 3x3 stem, three stages of fire modules behind max-pools, a 1x1 convolution to the classes."""
    modules: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1 if size <= 64 else 2, 1 if size <= 64 else 0), nn.ReLU()]
    inputs = 64
    for stage in STAGES:
        modules.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        for squeeze, width in stage:
            modules.append(Fire(squeeze=squeeze / width).build(inputs, width, 1))
            inputs = width
    head = [nn.Dropout(), nn.Conv2d(inputs, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*modules, *head)
