"""DoReFa networks (Zhou et al., 2016 [35]): weights, activations and gradients of few bits, with q_k(x) = round((2^k - 1) x) / (2^k - 1).

    weights      sign(w) E|w| with E over the layer for one bit, else 2 q_k(tanh(w) / (2 max|tanh(w)|) + 1/2) - 1      (equations 8, 9)
    activations  q_a(clip(x, 0, 1))                                                                                    (equation 11)
    gradients    2 m [q_g(d / (2 m) + 1/2 + N) - 1/2], m = max|d| of a sample, N uniform in +-0.5 / (2^g - 1)          (equation 12)

q passes gradients on as they are; tanh, its maximum and the clip have their own. Gradients are those of the layer's outputs. Gradients of
few bits cost accuracy here and save nothing: hardware that multiplies them would gain.

The paper's layers lie between batch norms. Here these are folded before (`spaces.compress`), so that a convolution's channels are
brought to one size first, every channel has a factor behind its sum, at first what makes it nearest to the trained weights, and 1 stands
for that reach of inputs which calibration images show to lose least.

Frozen to `int8_conv2d` or `int8_linear`: weights are odd whole numbers up to 2^k - 1 in size, packed in k + 1 bits (1 for one bit);
activations are whole multiples of 255 / (2^a - 1), which 1, 2, 4 and 8 bits divide. More than 6 bits of weights would not fit int8 packed.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import SpaceError, check_choice, check_range
from spaces.method import QUANTISE, Compression

SEEN, REACHES = 1 << 16, 64  # inputs that the reach is chosen by, and reaches that are tried
LEAST = 1e-6  # the factor of a channel of zeros beside the largest: no code of weights is zero


@dataclass(frozen=True)
class DoReFa(Compression):
    """Bits of weights, activations and gradients (32: floats)."""

    SOURCE: ClassVar[str] = "Zhou et al., 2016 [35]"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: a thirty-second, or (bits + 1) / 32; time: large dense layers from packed weights, else as int8"
    SETTINGS: ClassVar[tuple[str, ...]] = ("dorefa-weights4", "dorefa-weights2", "dorefa")
    weights: int = 1
    activations: int = 2
    gradients: int = 32

    def __post_init__(self):
        check_range("dorefa weights", self.weights, 1, 6)
        check_choice("dorefa activations", self.activations, (1, 2, 4, 8))
        check_choice("dorefa gradients", self.gradients, (*range(2, 9), 32))

    def prepare_at(self, site):
        from torch import nn
        from torch.nn.utils import parametrize

        layer = site.layer
        if parametrize.is_parametrized(layer, "weight"):
            raise SpaceError("dorefa: the weights are masked or share numbers, and none of its codes is zero; take it alone")
        if not bool(layer.weight.any()):
            raise SpaceError("dorefa: all weights are zero, so that they have no scale")
        integers, levels = _modules()
        reach = self._reach(site.inputs.flatten())
        prepared = integers(self, layer, reach)
        # 8 bits are what the integer layer takes anyway.
        return prepared if self.activations == 8 else nn.Sequential(nn.Hardtanh(0.0, reach), levels(self, reach), prepared)

    def _reach(self, x) -> float:
        """The reach of inputs x [n] whose levels lie nearest to them."""
        import torch

        x = x[::max(1, len(x) // SEEN)]
        largest, steps = float(x.max()), 2**self.activations - 1
        if float(x.min()) < 0 or not 0 < largest < float("inf"):
            raise SpaceError(f"dorefa: the inputs reach from {float(x.min()):g} to {largest:g}, and what is not above zero is lost; take it"
                             " behind a rectifier")
        reaches = largest * torch.arange(1, REACHES + 1) / REACHES
        errors = [(x - torch.round((x / reach).clamp(max=1) * steps) * (reach / steps)).square().sum() for reach in reaches]
        return float(reaches[int(torch.stack(errors).argmin())])

    def level_size(self, weight):
        """float32 [outputs]: what one step of the codes stands for, before factors."""
        import torch

        size = weight.abs().mean() if self.weights == 1 else torch.tensor(1 / (2**self.weights - 1))
        return size.to(weight).expand(len(weight))

    def codes(self, weight, scale=None):
        """The weights' codes, odd whole numbers in float32."""
        import torch

        if self.weights == 1:
            return torch.where(weight >= 0, 1.0, -1.0)
        most = 2**self.weights - 1
        return 2 * torch.round(most * (bounded(weight) / 2 + 0.5)) - most

    def store(self, codes):
        """Codes as they are stored."""
        from spaces.bits import pack_codes
        from spaces.prepared import Packed

        if self.weights == 1:
            return Packed("unpack_signs", {"negative": pack_codes(codes < 0, 1), "shape": list(codes.shape)})
        bits = self.weights + 1
        return Packed("unpack_bits", {"packed": pack_codes(codes & (2**bits - 1), bits), "bits": bits, "shape": list(codes.shape)})


def bounded(weight):
    """tanh(w) / max|tanh(w)|, -1 to 1."""
    tanh = weight.tanh()
    return tanh / tanh.abs().max()


def quantised_gradient(gradient, bits: int, noise):
    """Equation 12; gradient [N, ...]; noise: of the same shape, uniform in [-0.5, 0.5]."""
    import torch

    most, steps = gradient.abs().flatten(1).amax(1).view(-1, *[1] * (gradient.dim() - 1)), 2**bits - 1
    share = gradient / torch.where(most == 0, 1.0, 2 * most)
    return 2 * most * (torch.round(steps * (share + 0.5) + noise) / steps - 0.5)


def _modules():
    import torch
    from torch import nn

    from spaces.affine_range import AffineRange
    from spaces.integer import IntegerLayer, Steps, StraightThrough, by_channel
    from spaces.levels import sizes_of
    from spaces.prepared import Affine

    class QuantisedGradient(torch.autograd.Function):
        """Passes its input on, and its gradient in few bits."""

        @staticmethod
        def forward(ctx, x, bits):
            ctx.bits = bits
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return quantised_gradient(gradient, ctx.bits, torch.rand_like(gradient) - 0.5), None

    class ActivationLevels(AffineRange):
        """Passes inputs of 0 to `reach` on in so many levels."""

        def __init__(self, gene: DoReFa, reach: float):
            super().__init__(gene.name)
            self.gene = gene
            self.high.fill_(reach)

        def _watch(self, x):
            """The range stays."""

        def wanted(self) -> Affine:
            steps = 2**self.gene.activations - 1
            return Affine(float(torch.tensor(float(self.high) / steps, dtype=torch.float32)), 0)

    class DoReFaLayer(IntegerLayer):
        """A Conv2d or Linear that computes with codes, and with a factor for each channel."""

        def __init__(self, gene: DoReFa, layer: nn.Module, reach: float):
            super().__init__(layer, Steps(gene.name, gene.level_size, gene.codes, gene.store))
            self.gene = gene
            self.high.fill_(reach)
            trained = layer.weight.detach().clone()
            if isinstance(layer, nn.Conv2d):
                size = sizes_of(trained)
                layer.weight.data = trained / by_channel(torch.where(size == 0, 1.0, size), trained)
            codes = (gene.codes(layer.weight.detach()) * by_channel(gene.level_size(layer.weight.detach()), trained)).flatten(1)
            factor = (trained.flatten(1) * codes).sum(1) / codes.square().sum(1)
            self.register_buffer("factor", factor.clamp(min=LEAST * float(factor.max())))

        def forward(self, x):
            out = super().forward(x)
            return out if self.gene.gradients == 32 else QuantisedGradient.apply(out, self.gene.gradients)

        def _watch(self, x):
            """The range stays."""

        def learnt(self):
            weight = self.layer.weight
            soft = weight if self.gene.weights == 1 else bounded(weight)
            return StraightThrough.apply(soft * by_channel(self.factor, weight), self.realised())

        def weight_scale(self):
            finite = torch.isfinite(self.layer.weight.detach()).flatten(1).all(1)
            return torch.where(finite, super().weight_scale() * self.factor.abs(), torch.nan)

        def whole(self, scale):
            return super().whole(scale) * by_channel(self.factor.sign(), self.layer.weight)

        def absorb(self, factor: torch.Tensor) -> None:
            """Scales the channels."""
            self.factor.mul_(factor)

    return DoReFaLayer, ActivationLevels
