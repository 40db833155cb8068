"""SqueezeNet's head (Iandola et al., 2016): a 1x1 convolution to the classes (conv10), a rectifier and
global average pooling. `act_none` leaves the rectifier out, which trains better from scratch."""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import POINTWISE, Block, Role, convolution
from spaces.gene import check_choice


@dataclass(frozen=True)
class ConvClassifier(Block):
    """Head: 1x1 convolution to the classes, ReLU, global average pool."""

    SOURCE: ClassVar[str] = "Iandola et al., 2016 [92]"
    HEAD: ClassVar[bool] = True
    act: str = "relu"

    def __post_init__(self):
        check_choice("conv_classifier act", self.act, ("relu", "none"))

    def roles(self) -> dict[str, Role]:
        return {"conv": Role(POINTWISE, False)}

    def build(self, inputs: int, width: int, stride: int):
        from collections import OrderedDict

        from torch import nn

        return nn.Sequential(OrderedDict(
            conv=convolution(inputs, width, 1, bias=True),
            activation=nn.ReLU() if self.act == "relu" else nn.Identity(),
            pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten()))
