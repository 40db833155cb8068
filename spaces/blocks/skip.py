"""The identity: a position of a stage that is left out, which makes depth searchable (Cai et al.,
ProxylessNAS, 2019). With a stride it averages over stride x stride pixels, rounding sizes up.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import Block, Role
from spaces.gene import SpaceError


@dataclass(frozen=True)
class Skip(Block):
    """Nothing: the inputs pass; with a stride, their averages."""

    SOURCE: ClassVar[str] = "Cai et al., 2019"
    KEEPS_WIDTH: ClassVar[bool] = True

    def roles(self) -> dict[str, Role]:
        return {}

    def build(self, inputs: int, width: int, stride: int):
        from torch import nn

        if inputs != width:
            raise SpaceError(f"skip:{width}/{stride} after {inputs} channels; skip keeps the width")
        return nn.Identity() if stride == 1 else nn.AvgPool2d(stride, ceil_mode=True)
