"""Plain k x k convolution, normalised or biased, with a rectifier: the baseline block of any network."""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, POINTWISE, Block, Role, convolution
from spaces.gene import check_choice


@dataclass(frozen=True)
class Conv(Block):
    """Plain k x k convolution, batch norm (or bias), ReLU."""

    SOURCE: ClassVar[str] = "LeCun et al., 1998; Ioffe and Szegedy, 2015"
    kernel: int = 3
    norm: str = "batch"

    def __post_init__(self):
        check_choice("conv kernel", self.kernel, (1, 3, 5, 7))
        check_choice("conv norm", self.norm, ("batch", "none"))

    def roles(self) -> dict[str, Role]:
        return {"conv": Role(POINTWISE if self.kernel == 1 else CONV)}

    def build(self, inputs: int, width: int, stride: int):
        from torch import nn

        batch = self.norm == "batch"
        module = nn.Sequential()
        module.add_module("conv", convolution(inputs, width, self.kernel, stride, bias=not batch))
        if batch:
            module.add_module("norm", nn.BatchNorm2d(width))
        module.add_module("activation", nn.ReLU())
        return module
