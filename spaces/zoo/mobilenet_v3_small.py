"""MobileNetV3-Small at width 1 (Howard et al., 2019, table 2; squeeze-excite and h-swish of sections 5.2, 5.3)."""

from torch import nn

# kernel, expanded channels, width, squeeze-excite, h-swish (else ReLU), stride
ROWS = ((3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1),
        (5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1),
        (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1), (5, 288, 96, True, True, 2),
        (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1))


class _SqueezeExcite(nn.Module):
    """Gates channels by two dense layers on their means; the squeezed width is a multiple of 8."""

    def __init__(self, channels: int):
        super().__init__()
        squeezed = max(8, (channels // 4 + 4) // 8 * 8)
        squeezed += 8 if squeezed < 0.9 * channels / 4 else 0
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.rectify = nn.Conv2d(channels, squeezed, 1), nn.ReLU()
        self.excite, self.gate = nn.Conv2d(squeezed, channels, 1), nn.Hardsigmoid()

    def forward(self, x):
        return x * self.gate(self.excite(self.rectify(self.reduce(self.mean(x)))))


class _Bottleneck(nn.Module):
    """The inverted residual with optional squeeze-excite behind the depthwise convolution."""

    def __init__(self, inputs, kernel, hidden, width, gated, swish, stride):
        super().__init__()
        activation = nn.Hardswish if swish else nn.ReLU
        layers = _layer(inputs, hidden, 1, 1, 1, activation()) if hidden != inputs else []
        layers += _layer(hidden, hidden, kernel, stride, hidden, activation())
        layers += [_SqueezeExcite(hidden)] if gated else []
        self.layers = nn.Sequential(*layers, *_layer(hidden, width, 1, 1, 1))
        self.residual = stride == 1 and inputs == width

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


def network(size: int, classes: int) -> nn.Module:
    """A 3x3 stem, eleven bottlenecks, a 1x1 convolution to 576, global average, two dense layers."""
    modules, inputs = _layer(3, 16, 3, 1 if size <= 64 else 2, 1, nn.Hardswish()), 16
    for kernel, hidden, width, gated, swish, stride in ROWS:
        modules.append(_Bottleneck(inputs, kernel, hidden, width, gated, swish, stride))
        inputs = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(576, 1024), nn.Hardswish(), nn.Linear(1024, classes)]
    return nn.Sequential(*modules, *_layer(inputs, 576, 1, 1, 1, nn.Hardswish()), *head)


def _layer(inputs: int, outputs: int, kernel: int, stride: int, groups: int, *activation) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), *activation]
