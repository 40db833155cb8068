"""BinaryConnect (Courbariaux et al., 2015 [28]): binary weights forward and backward, an update of the real ones.

    Wb = H sign(W), or in training H with probability clip((W / H + 1) / 2, 0, 1), else -H
    dL/dW = dL/dWb,   then W is clipped to [-H, H] behind each step

H is the layer's mean |w| as it is found: the paper's 1, in the unit in which rates that suit the layer's weights suit its latent ones
(what the paper scales rates for). Batch norms follow as they did. Activations stay real, the sign of zero is 1, and either way the signs
are deployed, one bit a weight; the real weights that the paper tests its stochastic networks with would be no smaller.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import SpaceError, check_choice
from spaces.method import QUANTISE, Compression


@dataclass(frozen=True)
class BinaryConnect(Compression):
    """Weights of two values; `mode`: how those of a training step are chosen."""

    SOURCE: ClassVar[str] = "Courbariaux et al., 2015 [28]"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: a thirty-second; time in large dense layers, which read less memory"
    mode: str = "deterministic"

    def __post_init__(self):
        check_choice("binary_connect mode", self.mode, ("deterministic", "stochastic"))

    def prepare(self, layer):
        from spaces.levels import with_levels
        from spaces.prepared import masked

        if masked(layer):
            raise SpaceError(f"{self.name}: the weights are masked, and a sign is never zero; take ttq")
        return with_levels(layer, self.name, lambda weight, mask: _module()(weight, self.mode == "stochastic"))


def _module():
    import torch

    from spaces.integer import StraightThrough
    from spaces.levels import Levels, latent_of
    from spaces.recipe import Hooks

    class Clipping(Hooks):
        """Clips latent weights behind each step."""

        def __init__(self, latent: torch.Tensor, reach: torch.Tensor):
            self.latent, self.reach = latent, reach

        @torch.no_grad()
        def on_step(self, step):
            self.latent.copy_(self.latent.clamp(-self.reach, self.reach))

    class BinaryLevels(Levels):
        """The parametrisation."""

        def __init__(self, weight: torch.Tensor, stochastic: bool):
            super().__init__(None)
            self.stochastic = stochastic
            self.register_buffer("reach", weight.abs().mean())

        def hooks(self, run) -> Clipping:
            """Its part in a run that begins."""
            return Clipping(latent_of(self, run.network), self.reach)

        def realised(self, latent):
            positive = latent >= 0
            if self.stochastic and self.training:
                positive = torch.rand_like(latent) < (latent / self.reach + 1) / 2
            return StraightThrough.apply(latent, torch.where(positive, self.reach, -self.reach))

        def table(self):
            return torch.stack([-self.reach, self.reach])

    return BinaryLevels
