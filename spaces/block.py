"""Blocks: the pieces a network is stacked from, and the roles by which their layers are addressed.

`build` makes a torch module whose convolutions and dense layers are children named by role
(`squeeze`, `expand`, `depthwise`, ...), so that a layer's path is `layers.<index>.<role>`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from spaces.gene import Gene, SpaceError

if TYPE_CHECKING:
    from torch import nn

POINTWISE, CONV, DEPTHWISE, DENSE = "pointwise", "conv", "depthwise", "dense"


@dataclass(frozen=True)
class Role:
    """One compressible layer of a block: what it is, and whether its outputs may be removed."""

    kind: str
    removable: bool = True


@dataclass(frozen=True)
class Block(Gene):
    """A block gene. `HEAD` blocks end a network: their width is the number of classes."""

    KIND: ClassVar[str] = "blocks"
    HEAD: ClassVar[bool] = False
    KEEPS_WIDTH: ClassVar[bool] = False

    def roles(self) -> dict[str, Role]:
        """The compressible layers by name, in the order of computation."""
        raise NotImplementedError

    def build(self, inputs: int, width: int, stride: int) -> "nn.Module":
        """A module from [N, inputs, H, W] to [N, width, ceil(H/stride), ceil(W/stride)]
        (heads: to [N, width]). SpaceError where these numbers are impossible."""
        raise NotImplementedError


def part(place: str, ratio: float, width: int) -> int:
    """`ratio` of `width` channels as a whole number of at least one; SpaceError where none is left over."""
    channels = max(1, round(ratio * width))
    if channels >= width and ratio < 1:
        raise SpaceError(f"{place} {ratio} of {width} channels leaves none for the rest; take a wider layer")
    return channels


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False):
    """A Conv2d whose output has ceil(size / stride) pixels a side (odd kernels, padding kernel // 2)."""
    from torch import nn

    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
