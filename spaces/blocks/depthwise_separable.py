"""Depthwise separable convolution (Howard et al., MobileNets, 2017, section 3.1): a k x k depthwise
convolution that carries the stride, then a 1x1 convolution, each with its own batch norm and rectifier.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import DEPTHWISE, POINTWISE, Block, Role, convolution
from spaces.gene import check_choice


@dataclass(frozen=True)
class DepthwiseSeparable(Block):
    """MobileNet's depthwise k x k, then pointwise convolution."""

    SOURCE: ClassVar[str] = "Howard et al., 2017 [54]"
    kernel: int = 3
    act: str = "relu"

    def __post_init__(self):
        check_choice("depthwise_separable kernel", self.kernel, (3, 5, 7))
        check_choice("depthwise_separable act", self.act, ("relu", "relu6"))

    def roles(self) -> dict[str, Role]:
        return {"depthwise": Role(DEPTHWISE, False), "pointwise": Role(POINTWISE)}

    def build(self, inputs: int, width: int, stride: int):
        from collections import OrderedDict

        from torch import nn

        act = {"relu": nn.ReLU, "relu6": nn.ReLU6}[self.act]
        return nn.Sequential(OrderedDict(
            depthwise=convolution(inputs, inputs, self.kernel, stride, groups=inputs),
            depthwise_norm=nn.BatchNorm2d(inputs), depthwise_act=act(),
            pointwise=convolution(inputs, width, 1),
            pointwise_norm=nn.BatchNorm2d(width), pointwise_act=act()))
