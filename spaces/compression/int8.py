"""8-bit integers for weights and activations (Vanhoucke et al., 2011 [46]; Jacob et al., 2018): weights signed,
symmetric, one scale an output channel, by the largest magnitude; the rest is `spaces.integer`.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.method import QUANTISE, Compression


@dataclass(frozen=True)
class Int8(Compression):
    """8-bit weights per channel and 8-bit activations, integer arithmetic."""

    SOURCE: ClassVar[str] = "Vanhoucke et al., 2011 [46]; Jacob et al., 2018"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: a quarter; time: integer kernels"

    def prepare(self, layer):
        from spaces.integer import IntegerLayer, symmetric

        return IntegerLayer(layer, symmetric(self.name, 127, lambda steps: steps))
