"""Weights of 2 to 7 bits, activations of 8 (Lin et al., 2016 [27]; Jacob et al., 2018): like `int8`, with weights signed
and symmetric in [-(2^(bits-1) - 1), 2^(bits-1) - 1] and stored packed.

The step of a channel's weights is what its largest weight is 2^(bits-1) - 1 of, or that of least squared error: of the weights themselves
("mse"), or of a Gaussian or a Laplace density with their mean square ([27], section 3). With few bits the least error clips the largest
weights. How many bits are best for each layer of a network, `spaces.bit_allocation` says.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import check_choice, check_range
from spaces.method import QUANTISE, Compression


@dataclass(frozen=True)
class IntN(Compression):
    """Weights of `bits` bits per channel and 8-bit activations, integer arithmetic; `step`: how long a step of the weights is."""

    SOURCE: ClassVar[str] = "Lin et al., 2016 [27]; Jacob et al., 2018"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: bits / 32; time: large dense layers from packed weights, else as int8"
    SETTINGS: ClassVar[tuple[str, ...]] = ("intn-bits6", "intn-bits4", "intn-bits2")
    bits: int = 4
    step: str = "largest"

    def __post_init__(self):
        check_range("intn bits", self.bits, 2, 7)
        check_choice("intn step", self.step, ("largest", "mse", "gaussian", "laplace"))

    def prepare(self, layer):
        from spaces.integer import IntegerLayer, symmetric

        steps = symmetric(self.name, 2 ** (self.bits - 1) - 1, self._store)
        if self.step != "largest":
            # A density's step is no longer the same once its weights are rounded to it.
            steps = replace(steps, scale=self._scale, homogeneous=self.step == "mse")
        return IntegerLayer(layer, steps)

    def _scale(self, weight):
        from spaces.integer import unless_zero
        from spaces.uniform_steps import fitted_steps, least_steps

        most = 2 ** (self.bits - 1) - 1
        return unless_zero(least_steps(weight, most) if self.step == "mse" else fitted_steps(weight, most, self.step))

    def _store(self, steps):
        from spaces.bits import pack_codes
        from spaces.prepared import Packed

        codes = pack_codes(steps & (2**self.bits - 1), self.bits)
        return Packed("unpack_bits", {"packed": codes, "bits": self.bits, "shape": list(steps.shape)})
