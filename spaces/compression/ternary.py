"""Ternary weights, activations of 8 bits (Li et al., 2016 [36], equations 3 to 6): -1, 0 or 1 times a scale per channel.
A weight is zero up to the threshold of 0.7 mean |w|; the scale is the mean |w| of the others. Both follow the weights
in every step of training.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.method import QUANTISE, Compression

THRESHOLD = 0.7


@dataclass(frozen=True)
class Ternary(Compression):
    """Weights -1, 0, 1 times a scale per channel, stored as two bit planes, and 8-bit activations."""

    SOURCE: ClassVar[str] = "Li et al., 2016 [36]"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: a sixteenth; time: large dense layers from packed weights, else as int8"

    def prepare(self, layer):
        from spaces.integer import IntegerLayer, Steps

        return IntegerLayer(layer, Steps(self.name, _scale, lambda weight, scale: _ternary(weight), _store))


def _ternary(weight):
    """The sign of what is past its channel's threshold."""
    from spaces.integer import by_channel

    threshold = by_channel(THRESHOLD * weight.abs().flatten(1).mean(1), weight)
    return weight.sign() * (weight.abs() > threshold)


def _scale(weight):
    from spaces.integer import unless_zero

    active = _ternary(weight).abs().flatten(1)
    return unless_zero((weight.abs().flatten(1) * active).sum(1) / active.sum(1).clamp(min=1))


def _store(steps):
    from spaces.bits import pack_codes
    from spaces.prepared import Packed

    planes = {"active": pack_codes(steps != 0, 1), "negative": pack_codes(steps < 0, 1)}
    return Packed("unpack_ternary", {**planes, "shape": list(steps.shape)})
