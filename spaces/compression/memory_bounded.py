"""Memory bounded networks (Collins and Kohli, 2014 [88]): sparse training within a budget of bytes, by l0 projection.

Every `every` steps of training a layer's weights are projected to the t largest, which is the nearest point of the set of weights with at
most t that are not zero; between projections all of them learn, so that others can take a place among the t. t is the greatest number
with which the layer's stored bytes in floats, those of the bitmap and the bias among them, are within the budget:

    4 t + ceil(n / 8) + 4 outputs <= budget 4 (n + outputs)

for n weights. It holds at all times, whenever training ends. In the last tenth of training every step projects. How a network's budget is
shared among its layers, in the paper a greedy search by validation accuracy, is left to the study, whose choice a layer's budget is.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import SpaceError, check_range
from spaces.method import SPARSIFY, Compression


@dataclass(frozen=True)
class MemoryBounded(Compression):
    """Keeps as many weights as fit: `budget` is the share of the dense layer's bytes; `every` the steps between projections."""

    SOURCE: ClassVar[str] = "Collins and Kohli, 2014 [88]"
    PHASE: ClassVar[int] = SPARSIFY
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: bitmap and kept values, within the budget; time where few are kept"
    budget: float = 0.25
    every: int = 10

    def __post_init__(self):
        check_range("memory_bounded budget", self.budget, 0.04, 1)
        check_range("memory_bounded every", self.every, 1, 10_000)

    def kept(self, weight) -> int:
        """t for weights [outputs, ...]. SpaceError if it is none."""
        count, outputs = weight.numel(), len(weight)
        most = (int(self.budget * 4 * (count + outputs)) - 4 * outputs - -(-count // 8)) // 4
        if most < 1:
            raise SpaceError(f"{self}: {self.budget:g} of the layer's {4 * (count + outputs)} bytes hold its bitmap and bias and no weight;"
                             " give more")
        return min(most, count)

    def prepare(self, layer):
        import torch
        from torch.nn.utils import parametrize

        from spaces.masks import BoundedMask
        from spaces.prepared import check_unshared

        check_unshared(layer, self)
        if not layer.weight.any():
            raise SpaceError(f"{self}: the layer's weights are all zero")
        mask = BoundedMask(layer.weight.detach(), self.kept(layer.weight), self.every)
        with torch.no_grad():
            layer.weight.mul_(mask.mask)
        parametrize.register_parametrization(layer, "weight", mask)
        return layer
