"""The usual head: global average pooling (Lin et al., Network in Network, 2014) and a dense layer."""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import DENSE, Block, Role


@dataclass(frozen=True)
class Classifier(Block):
    """Head: global average pool, dense layer to the classes."""

    SOURCE: ClassVar[str] = "Lin et al., 2014"
    HEAD: ClassVar[bool] = True

    def roles(self) -> dict[str, Role]:
        return {"dense": Role(DENSE, False)}

    def build(self, inputs: int, width: int, stride: int):
        from collections import OrderedDict

        from torch import nn

        return nn.Sequential(OrderedDict(
            pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), dense=nn.Linear(inputs, width)))
