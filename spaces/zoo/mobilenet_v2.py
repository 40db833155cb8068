"""MobileNetV2 at width 1 (Sandler et al., 2018, table 2)."""

from torch import nn

from spaces.blocks.mbconv import MBConv

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def network(size: int, classes: int) -> nn.Module:
    """A 3x3 stem, seventeen inverted residuals, a 1x1 convolution to 1,280, global average, a dense layer."""
    modules, inputs = _layer(3, 32, 3, 1 if size <= 64 else 2), 32
    for expand, width, count, stride in STAGES:
        for index in range(count):
            modules.append(MBConv(expand=expand).build(inputs, width, stride if index == 0 else 1))
            inputs = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, classes)]
    return nn.Sequential(*modules, *_layer(inputs, 1280, 1, 1), *head)


def _layer(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU6()]
