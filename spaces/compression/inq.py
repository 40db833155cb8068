"""Incremental network quantisation (Zhou et al., 2017 [38]): a layer's weights become powers of two or zero portion by portion, the rest
being trained on, which makes up for those that are fixed.

With s the largest |w| of the layer and b bits, the values are

    P = {0, +-2^n2, ..., +-2^n1},   n1 = floor(log2(4 s / 3)),   n2 = n1 + 1 - 2^(b-1) / 2              (equations 1 to 3)

and |w| becomes b of P where (a + b) / 2 <= |w| < 3 b / 2, a and b neighbours in P                      (equation 4)

Of each portion the largest weights that are not fixed yet are fixed, for good; gradients reach the others alone. The first portion is
fixed at once, the next ones behind equal parts of the training, the last at its end; a network whose training ended earlier is
evaluated and deployed with all its weights in P all the same. Weights are stored as codes of b bits and computed with in floats;
activations stay real.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import check_choice, check_range
from spaces.method import QUANTISE, Compression

PORTIONS = {0.5: (0.5, 0.75, 0.875, 1.0), 0.3: (0.3, 0.6, 0.8, 1.0)}


@dataclass(frozen=True)
class INQ(Compression):
    """Weights of powers of two, fixed portion by portion while the rest trains.

    `start`: the share that is fixed first, 0.5 (then 0.75, 0.875, 1) or 0.3 (then 0.6, 0.8, 1); `partition`: which weights are fixed first,
    the largest or any.
    """

    SOURCE: ClassVar[str] = "Zhou et al., 2017 [38]"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: bits / 32; time in large dense layers, which read less memory"
    SETTINGS: ClassVar[tuple[str, ...]] = ("inq", "inq-bits3")
    bits: int = 5
    start: float = 0.5
    partition: str = "magnitude"

    def __post_init__(self):
        check_range("inq bits", self.bits, 2, 5)
        check_choice("inq start", self.start, tuple(PORTIONS))
        check_choice("inq partition", self.partition, ("magnitude", "random"))

    def prepare(self, layer):
        from spaces.levels import with_levels

        return with_levels(layer, self.name, lambda weight, mask: _module()(self, weight, mask))


def powers(largest: float, bits: int) -> list[float]:
    """The numbers of P that are not negative, ascending; `largest`: s above, more than 0."""
    import math

    highest = math.floor(math.log2(4 * largest / 3))
    lowest = highest + 1 - 2 ** (bits - 1) // 2
    return [0.0, *(2.0**power for power in range(lowest, highest + 1))]


def nearest(weight, values):
    """Weights as numbers of P (equation 4), the largest for those past all; values: P's numbers that are not negative, ascending."""
    import torch

    bounds = (values[:-1] + values[1:]) / 2
    return weight.sign() * values[torch.bucketize(weight.abs().contiguous(), bounds, right=True)]


def _module():
    import torch

    from spaces.levels import Levels, latent_of
    from spaces.recipe import Hooks, Run

    class Fixing(Hooks):
        """Fixes portion by portion: the first is fixed already."""

        def __init__(self, levels: "PowerLevels", run: Run):
            self.levels, self.steps, self.latent = levels, run.steps, latent_of(levels, run.network)

        def on_step(self, step):
            portions = PORTIONS[self.levels.gene.start]
            self.levels.fix(portions[(step + 1) * (len(portions) - 1) // self.steps], self.latent.detach())

    class PowerLevels(Levels):
        """The parametrisation: fixed weights are held here, whatever an optimiser does to those behind them."""

        def __init__(self, gene: INQ, weight: torch.Tensor, mask: torch.Tensor | None):
            super().__init__(mask)
            self.gene = gene
            self.register_buffer("powers", torch.tensor(powers(float(weight.abs().max()), gene.bits)))
            self.register_buffer("fixed", torch.zeros_like(weight, dtype=torch.bool) if mask is None else mask == 0)
            self.register_buffer("values", torch.zeros_like(weight))
            self.fix(PORTIONS[gene.start][0], weight)

        def hooks(self, run: Run) -> Fixing:
            """Its part in a run that begins."""
            return Fixing(self, run)

        def fix(self, share: float, latent: torch.Tensor) -> None:
            """Fixes the next weights, until a share of those that the mask keeps is fixed."""
            kept = self.fixed.numel() if self.mask is None else int((self.mask != 0).sum())
            free = (~self.fixed).flatten().nonzero().flatten()
            count = round(share * kept) - (kept - len(free))
            chosen = torch.zeros(self.fixed.numel(), dtype=torch.bool, device=latent.device)
            chosen[free[self._order(latent.flatten()[free])[:max(0, count)]]] = True
            chosen = chosen.view(latent.shape)
            self.values.copy_(torch.where(chosen, nearest(latent, self.powers), self.values))
            self.fixed.logical_or_(chosen)

        def _order(self, latent):
            if self.gene.partition == "magnitude":
                return latent.abs().argsort(descending=True, stable=True)
            return torch.randperm(len(latent), generator=torch.Generator().manual_seed(0)).to(latent.device)

        def realised(self, latent):
            mixed = torch.where(self.fixed, self.values, latent)
            return mixed if self.training else nearest(mixed, self.powers)

        def table(self):
            return torch.cat([-self.powers.flip(0)[:-1], self.powers])

    return PowerLevels
