"""ResNet-20 for 32x32 images (He et al., 2016, section 4.2), with the parameter-free shortcut (option A) replaced by
a 1x1 convolution (option B) where widths change."""

from torch import nn


class _Residual(nn.Module):
    """Two 3x3 convolutions around which the inputs are added."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.first, self.second = _layer(inputs, width, 3, stride), _layer(width, width, 3, 1)
        self.shortcut = _layer(inputs, width, 1, stride) if inputs != width else nn.Identity()
        self.rectify, self.rectify_sum = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        return self.rectify_sum(self.second(self.rectify(self.first(x))) + self.shortcut(x))


def network(size: int, classes: int) -> nn.Module:
    """A 3x3 stem, three stages of three residual blocks, global average, a dense layer."""
    modules, inputs = [*_layer(3, 16, 3, 1), nn.ReLU()], 16
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        for index in range(3):
            modules.append(_Residual(inputs, width, stride if index == 0 else 1))
            inputs = width
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def _layer(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
