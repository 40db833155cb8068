"""Binary weights, activations of 8 bits (Courbariaux et al., 2015 [28], deterministic; Rastegari et al., 2016 [31],
Binary-Weight-Networks, equation 6): the sign of a weight times the mean |w| of its channel, which is the best scale.
The sign of zero is 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import SpaceError
from spaces.method import QUANTISE, Compression


@dataclass(frozen=True)
class Signs(Compression):
    """Weights -1 and 1 times a scale per channel, one bit each, and 8-bit activations."""

    SOURCE: ClassVar[str] = "Courbariaux et al., 2015 [28]; Rastegari et al., 2016 [31]"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: a thirty-second; time: large dense layers from packed weights, else as int8"

    def prepare(self, layer):
        from spaces.integer import IntegerLayer, Steps
        from spaces.prepared import masked

        if masked(layer):
            raise SpaceError("signs: the weights are masked, and a sign is never zero; take ternary")
        return IntegerLayer(layer, Steps(self.name, _scale, _round, _store))


def _scale(weight):
    return weight.abs().flatten(1).mean(1)


def _round(weight, scale):
    return 1 - 2 * (weight < 0).to(weight.dtype)


def _store(steps):
    from spaces.bits import pack_codes
    from spaces.prepared import Packed

    return Packed("unpack_signs", {"negative": pack_codes(steps < 0, 1), "shape": list(steps.shape)})
