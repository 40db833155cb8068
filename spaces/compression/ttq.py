"""Trained ternary quantisation (Zhu et al., 2017 [37]): weights Wp, 0 and -Wn with two trained scales a layer.

With the threshold D = t max|w| over the layer's latent weights w, or the one that makes a share of them zero,

    wt = Wp where w > D,  -Wn where w < -D,  else 0                                                  (equation 6)
    dL/dWp = sum over w > D of dL/dwt,   dL/dWn = -sum over w < -D of dL/dwt                         (equation 7)
    dL/dw  = Wp dL/dwt where w > D,  Wn dL/dwt where w < -D,  else dL/dwt                            (equation 8)

The scales start at the mean |w| of their sides. Their gradients are sums over many weights, so that a rate at which the weights learn
would be far too high for them; what is trained is sqrt(n) times a scale, n the weights that began past the threshold, by which a scale
moves as far as these weights would together, each for itself. Weights are stored as codes of two bits into the table of the three
values, and computed with in floats; activations stay real.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import check_range
from spaces.method import QUANTISE, Compression


@dataclass(frozen=True)
class TTQ(Compression):
    """Weights of three values with two trained scales.

    `t`: the threshold as a share of the largest weight; `sparsity`: the share of zeros instead, where it is not 0.
    """

    SOURCE: ClassVar[str] = "Zhu et al., 2017 [37]"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: a sixteenth; time in large dense layers, which read less memory"
    t: float = 0.05
    sparsity: float = 0.0

    def __post_init__(self):
        check_range("ttq t", self.t, 0, 0.9)
        check_range("ttq sparsity", self.sparsity, 0, 0.95)

    def prepare(self, layer):
        from spaces.levels import with_levels

        return with_levels(layer, self.name, lambda weight, mask: _module()(self, weight, mask))

    def threshold(self, latent):
        """The magnitude that is past zero, as above; a scalar."""
        size = latent.detach().abs()
        if not self.sparsity:
            return self.t * size.max()
        return size.flatten().kthvalue(max(1, round(self.sparsity * size.numel()))).values


def _module():
    import torch
    from torch import nn

    from spaces.levels import Levels

    class Ternarised(torch.autograd.Function):
        """Equations 6 to 8."""

        @staticmethod
        def forward(ctx, latent, positive, negative, threshold):
            above, below = latent > threshold, latent < -threshold
            ctx.save_for_backward(above, below, positive, negative)
            return above * positive - below * negative

        @staticmethod
        def backward(ctx, gradient):
            above, below, positive, negative = ctx.saved_tensors
            scale = torch.where(above, positive, torch.where(below, negative, 1.0))
            return gradient * scale, (gradient * above).sum(), -(gradient * below).sum(), None

    class TernaryLevels(Levels):
        """The parametrisation, whose parameters are the two scales."""

        def __init__(self, gene: TTQ, weight: torch.Tensor, mask: torch.Tensor | None):
            super().__init__(mask)
            self.gene = gene
            threshold = gene.threshold(weight)
            self.unit = max(1, int((weight.abs() > threshold).sum())) ** -0.5
            self.up = nn.Parameter(_mean(weight, weight > threshold) / self.unit)
            self.down = nn.Parameter(_mean(weight, weight < -threshold) / self.unit)

        def scales(self):
            """Wp and Wn."""
            return self.up * self.unit, self.down * self.unit

        def realised(self, latent):
            return Ternarised.apply(latent, *self.scales(), self.gene.threshold(latent))

        def table(self):
            positive, negative = self.scales()
            return torch.stack([-negative, torch.zeros_like(positive), positive])

    return TernaryLevels


def _mean(weight, side):
    """The mean |w| of a side, or of all weights if it has none."""
    return (weight[side] if side.any() else weight).abs().mean()
