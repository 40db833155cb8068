"""Where a tensor becomes uint8: the range that training shows decides its type (Jacob et al., 2018, section 3.1)."""

import torch
from torch import nn

from spaces.prepared import Affine, EmptyRange
from spaces.requantise import divided


class _Rounded(torch.autograd.Function):
    """What is left of a tensor after its uint8 form, by the steps of `spaces.ops.quantize`. torch's own is several times slower on CPUs,
    and multiplies by the scale's inverse, so that some halves go the other way."""

    @staticmethod
    def forward(ctx, x, scale, zero_point):
        whole = divided(x.float(), scale).round_().add_(zero_point)
        ctx.save_for_backward((whole >= 0) & (whole <= 255))
        return whole.clamp_(0, 255).sub_(zero_point).mul_(scale).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0], None, None


class AffineRange(nn.Module):
    """Passes a tensor on as its uint8 form will be: rounded forward, identity backward inside the range."""

    momentum = 0.05

    def __init__(self, name: str):
        """name: what stands in messages."""
        super().__init__()
        self.name = name
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(0.0))

    def forward(self, x):
        if self.training:
            self._watch(x.detach())
        if not self.high > self.low:
            return x
        wanted = self.wanted()
        return _Rounded.apply(x, wanted.scale, wanted.zero_point)

    def _watch(self, x):
        """Moves the range towards this batch's; the first batch sets it. The range holds zero."""
        low, high = torch.aminmax(x)
        step = self.momentum if self.high > self.low else 1.0
        self.low.lerp_(low.clamp(max=0), step)
        self.high.lerp_(high.clamp(min=0), step)

    def wanted(self) -> Affine:
        """The tensor's type; EmptyRange if no range was seen or it is not finite."""
        low, high = float(self.low), float(self.high)
        if not 0 < high - low < float("inf"):
            raise EmptyRange(f"{self.name}: the inputs' range is {low:g} to {high:g}; it must be finite and not empty")
        scale = float(torch.tensor((high - low) / 255, dtype=torch.float32))
        return Affine(scale, min(255, max(0, round(-low / scale))))
