"""Weights of 2 to 7 bits, activations of 8 (Lin et al., 2016 [27]; Jacob et al., 2018): like `int8`, with weights signed
and symmetric in [-(2^(bits-1) - 1), 2^(bits-1) - 1] and stored packed.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import check_range
from spaces.method import QUANTISE, Compression


@dataclass(frozen=True)
class IntN(Compression):
    """Weights of `bits` bits per channel and 8-bit activations, integer arithmetic."""

    SOURCE: ClassVar[str] = "Lin et al., 2016 [27]; Jacob et al., 2018"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: bits / 32; time: large dense layers from packed weights, else as int8"
    SETTINGS: ClassVar[tuple[str, ...]] = ("intn-bits6", "intn-bits4", "intn-bits2")
    bits: int = 4

    def __post_init__(self):
        check_range("intn bits", self.bits, 2, 7)

    def prepare(self, layer):
        from spaces.integer import IntegerLayer, symmetric

        return IntegerLayer(layer, symmetric(self.name, 2 ** (self.bits - 1) - 1, self._store))

    def _store(self, steps):
        from spaces.bits import pack_codes
        from spaces.prepared import Packed

        codes = pack_codes(steps & (2**self.bits - 1), self.bits)
        return Packed("unpack_bits", {"packed": codes, "bits": self.bits, "shape": list(steps.shape)})
