"""Circulant projections (Cheng et al., 2015 [63]) block by block (Ding et al., CirCNN, 2017): every block of a weight matrix
is circulant, so that a column of it says all, and the Fourier transform multiplies by it. The one-shot conversion takes
means along the diagonals, the least-squares optimum; the columns are trained on. The random signs of [63] are left out:
they would part a trained layer from its inputs.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import DENSE, POINTWISE
from spaces.gene import check_range
from spaces.method import FACTORISE, Compression


@dataclass(frozen=True)
class Circulant(Compression):
    """Weights as circulant blocks of side `block`."""

    SOURCE: ClassVar[str] = "Cheng et al., 2015 [63]; Ding et al., 2017"
    PHASE: ClassVar[int] = FACTORISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: one number in `block`; time: Fourier transforms where those are faster"
    SETTINGS: ClassVar[tuple[str, ...]] = ("circulant-block8", "circulant-block16")
    block: int = 8

    def __post_init__(self):
        check_range("circulant block", self.block, 2, 1 << 12)

    def prepare(self, layer):
        from torch.nn.utils import parametrize

        from spaces.circulant import Circulant as Blocks

        blocks = Blocks(list(layer.weight.shape), self.block)
        if blocks.right_inverse(layer.weight).numel() < layer.weight.numel():
            parametrize.register_parametrization(layer, "weight", blocks)
        return layer
