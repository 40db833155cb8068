"""MobileNetV1 at width 1 (Howard et al., 2017, table 1)."""

from torch import nn

WIDTHS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


def network(size: int, classes: int) -> nn.Module:
    """A 3x3 stem, thirteen depthwise-separable layers, global average pooling, a dense layer."""
    modules, inputs = _layer(3, 32, 3, 1 if size <= 64 else 2, 1), 32
    for width, stride in WIDTHS:
        modules += _layer(inputs, inputs, 3, stride, inputs) + _layer(inputs, width, 1, 1, 1)
        inputs = width
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def _layer(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
