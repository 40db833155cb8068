"""The fire module of SqueezeNet (Iandola et al., 2016, section 3.1): few 1x1 filters squeeze the
channels, then 1x1 and 3x3 filters expand them side by side and are concatenated.

With stride 2 a 3x3 max-pool stands in front, as between the fire modules of SqueezeNet ("late
down-sampling"). The published module has biases and no batch norm; `norm_batch` adds one after each
convolution, which trains faster and is folded away when deployed. `bypass_simple` adds the inputs to
the outputs where the shapes match; `bypass_complex` adds them through a 1x1 convolution (figure 2).
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, POINTWISE, Block, Role, convolution, part
from spaces.gene import SpaceError, check_choice, check_range


@dataclass(frozen=True)
class Fire(Block):
    """SqueezeNet's fire module: squeeze 1x1, expand 1x1 and 3x3, concatenate."""

    SOURCE: ClassVar[str] = "Iandola et al., 2016 [92]"
    squeeze: float = 0.125
    share: float = 0.5
    bypass: str = "none"
    norm: str = "none"

    def __post_init__(self):
        check_range("fire squeeze", self.squeeze, 0.01, 1)
        check_range("fire share", self.share, 0.01, 0.99)
        check_choice("fire bypass", self.bypass, ("none", "simple", "complex"))
        check_choice("fire norm", self.norm, ("none", "batch"))

    def roles(self) -> dict[str, Role]:
        free = self.bypass == "none"
        roles = {"squeeze": Role(POINTWISE), "expand1x1": Role(POINTWISE, free), "expand3x3": Role(CONV, free)}
        return {**roles, "bypass": Role(POINTWISE, False)} if self.bypass == "complex" else roles

    def build(self, inputs: int, width: int, stride: int):
        squeezed, wide = max(1, round(self.squeeze * width)), part("fire share", self.share, width)
        if stride not in (1, 2):
            raise SpaceError(f"fire stride is {stride}; it can be 1 or 2")
        if self.bypass == "simple" and inputs != width:
            raise SpaceError(f"fire bypass_simple from {inputs} to {width} channels; take bypass_complex")
        return _module()(self, inputs, squeezed, width - wide, wide, stride)


def _module():
    import torch
    from torch import nn

    class FireModule(nn.Module):
        """[N, inputs, H, W] to [N, narrow + wide, ceil(H/stride), ceil(W/stride)]."""

        def __init__(self, gene: Fire, inputs: int, squeezed: int, narrow: int, wide: int, stride: int):
            super().__init__()
            batch = gene.norm == "batch"
            self.pool = nn.MaxPool2d(3, 2, 1) if stride == 2 else nn.Identity()
            self.squeeze = convolution(inputs, squeezed, 1, bias=not batch)
            self.expand1x1 = convolution(squeezed, narrow, 1, bias=not batch)
            self.expand3x3 = convolution(squeezed, wide, 3, bias=not batch)
            self.bypassed = gene.bypass
            if gene.bypass == "complex":
                self.bypass = convolution(inputs, narrow + wide, 1, bias=True)
            for name, channels in (("squeeze", squeezed), ("expand1x1", narrow), ("expand3x3", wide)):
                self.add_module(f"{name}_norm", nn.BatchNorm2d(channels) if batch else nn.Identity())
            self.activation = nn.ReLU()

        def forward(self, x):
            x = self.pool(x)
            squeezed = self.activation(self.squeeze_norm(self.squeeze(x)))
            narrow = self.activation(self.expand1x1_norm(self.expand1x1(squeezed)))
            wide = self.activation(self.expand3x3_norm(self.expand3x3(squeezed)))
            out = torch.cat([narrow, wide], 1)
            if self.bypassed == "simple":
                return out + x
            return out + self.bypass(x) if self.bypassed == "complex" else out

    return FireModule
