"""Weights that are powers of two, activations of 8 bits (Hubara et al., 2016 [30], LogQuant): sign and exponent in 3 or 4
bits, one code for zero. The largest magnitude of a channel is its largest power; the exponent of the others is rounded,
2^round(log2 |w|), and less than half of the smallest power is zero.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import check_choice
from spaces.method import QUANTISE, Compression


@dataclass(frozen=True)
class Pow2(Compression):
    """Weights 0 and +-1 to +-64 times a scale per channel (4 bits), or 0 and +-1 to +-4 (3 bits)."""

    SOURCE: ClassVar[str] = "Hubara et al., 2016 [30]"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: bits / 32; time: large dense layers from packed weights, else as int8"
    SETTINGS: ClassVar[tuple[str, ...]] = ("pow2-bits4", "pow2-bits3")
    bits: int = 4

    def __post_init__(self):
        check_choice("pow2 bits", self.bits, (3, 4))

    @property
    def largest(self) -> int:
        """The exponent of the largest power."""
        return 2 ** (self.bits - 1) - 2

    def prepare(self, layer):
        from spaces.integer import IntegerLayer, Steps

        return IntegerLayer(layer, Steps(self.name, self._scale, self._round, self._store))

    def _scale(self, weight):
        from spaces.integer import unless_zero

        return unless_zero(weight.abs().flatten(1).amax(1) / 2**self.largest)

    def _round(self, weight, scale):
        import torch

        from spaces.integer import by_channel

        steps = weight * by_channel(1 / scale, weight)
        power = 2 ** torch.log2(steps.abs()).round().clamp(0, self.largest)
        return torch.where(steps.abs() < 0.5, 0.0, torch.sign(steps) * power)

    def _store(self, steps):
        import torch

        from spaces.bits import pack_codes
        from spaces.prepared import Packed

        exponent = torch.where(steps == 0, 0, torch.log2(steps.abs().float()).round() + 1)
        codes = exponent + (steps < 0) * 2 ** (self.bits - 1)
        return Packed("unpack_pow2", {"packed": pack_codes(codes, self.bits), "bits": self.bits, "shape": list(steps.shape)})
