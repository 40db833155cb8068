"""The inverted residual with linear bottleneck of MobileNetV2 (Sandler et al., 2018, section 3.3),
optionally with squeeze-and-excitation (Hu et al., 2018) behind the depthwise convolution.

1x1 expansion (left out at expand 1), depthwise k x k with the stride, linear 1x1 projection; the
inputs are added where stride is 1 and widths agree. `se0.25` gates the expanded channels by two dense
layers on their means, squeezed to a quarter of the block's inputs.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import DEPTHWISE, POINTWISE, Block, Role, convolution
from spaces.gene import check_choice, check_range


@dataclass(frozen=True)
class MBConv(Block):
    """MobileNetV2's inverted residual, with squeeze-excite if `se` is above 0."""

    SOURCE: ClassVar[str] = "Sandler et al., 2018; Hu et al., 2018"
    kernel: int = 3
    expand: int = 6
    se: float = 0.0

    def __post_init__(self):
        check_choice("mbconv kernel", self.kernel, (3, 5, 7))
        check_range("mbconv expand", self.expand, 1, 16)
        check_range("mbconv se", self.se, 0, 1)

    def roles(self) -> dict[str, Role]:
        expand = {"expand": Role(POINTWISE)} if self.expand > 1 else {}
        gate = {"reduce": Role(POINTWISE), "excite": Role(POINTWISE, False)} if self.se else {}
        return {**expand, "depthwise": Role(DEPTHWISE, False), **gate, "project": Role(POINTWISE)}

    def build(self, inputs: int, width: int, stride: int):
        return _module()(self, inputs, width, stride)


def _module():
    from torch import nn

    class InvertedResidual(nn.Module):
        """[N, inputs, H, W] to [N, width, ceil(H/stride), ceil(W/stride)]."""

        def __init__(self, gene: MBConv, inputs: int, width: int, stride: int):
            super().__init__()
            hidden, squeezed = inputs * gene.expand, max(1, round(inputs * gene.se))
            self.expands, self.gated = gene.expand > 1, gene.se > 0
            self.residual = stride == 1 and inputs == width
            if self.expands:
                self.expand, self.expand_norm = convolution(inputs, hidden, 1), nn.BatchNorm2d(hidden)
            self.depthwise = convolution(hidden, hidden, gene.kernel, stride, groups=hidden)
            self.depthwise_norm = nn.BatchNorm2d(hidden)
            if self.gated:
                self.mean = nn.AdaptiveAvgPool2d(1)
                self.reduce = convolution(hidden, squeezed, 1, bias=True)
                self.excite = convolution(squeezed, hidden, 1, bias=True)
                self.gate = nn.Sigmoid()
            self.project, self.project_norm = convolution(hidden, width, 1), nn.BatchNorm2d(width)
            self.activation, self.reduce_activation = nn.ReLU6(), nn.ReLU()

        def forward(self, x):
            y = self.activation(self.expand_norm(self.expand(x))) if self.expands else x
            y = self.activation(self.depthwise_norm(self.depthwise(y)))
            if self.gated:
                y = y * self.gate(self.excite(self.reduce_activation(self.reduce(self.mean(y)))))
            y = self.project_norm(self.project(y))
            return x + y if self.residual else y

    return InvertedResidual
