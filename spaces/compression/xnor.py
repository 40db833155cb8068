"""Signs for weights and activations (Rastegari et al., 2016, XNOR-Net [31], section 3.2; Courbariaux et al., 2016 [29]).

A filter is its signs times the mean |w|, which is the best scale. Inputs stand for m + b sign(x - m) with m their mean and
b their mean distance from it, one of each a tensor, followed in training: behind a rectifier signs about zero would all
be alike. A convolution is then

    out = a b (sign(x - m) * sign(w)) + bias + m a sum(sign(w)),

the sum counted by xor and popcount; the last term is the same for every pixel, so that taps outside the image stand for m.
Trained with straight-through estimators: b sign(x - m) hands its gradient on where |x - m| <= b, a sign(w) everywhere,
undamped by the paper's factor a, beside what a itself passes to w. Frozen to `binarize` and `binary_conv2d` or
`binary_linear`. The paper's map of b over the pixels is left out.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, POINTWISE
from spaces.gene import SpaceError
from spaces.method import QUANTISE, Compression

FEWEST, MOST = 8, 2**24


@dataclass(frozen=True)
class Xnor(Compression):
    """Signs of weights and of activations, one bit each, counted by xor and popcount."""

    SOURCE: ClassVar[str] = "Rastegari et al., 2016 [31]; Courbariaux et al., 2016 [29]"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DENSE)
    GAIN: ClassVar[str] = "bytes: a thirty-second; time: popcount kernels"

    def prepare(self, layer):
        from torch.nn.utils import parametrize

        if parametrize.is_parametrized(layer, "weight"):
            raise SpaceError("xnor: the weights are masked or shared, and signs would undo that; take xnor alone")
        groups, products = getattr(layer, "groups", 1), layer.weight[0].numel()
        if groups > 1 and layer.weight.shape[1] % 8:
            raise SpaceError(f"xnor: groups of {layer.weight.shape[1]} channels; signs are packed by eight, so groups"
                             " must be a multiple of 8 wide")
        if not FEWEST <= products <= MOST:
            raise SpaceError(f"xnor: {products} inputs to an output; signs need {FEWEST} to {MOST} to stand for a sum")
        return _module()(layer)


def _module():
    import torch
    from torch import nn

    from spaces.packed_signs import pack_signs
    from spaces.prepared import Bits, Deployed, EmptyRange, geometry, op_for

    class Signs(torch.autograd.Function):
        """+1 where x >= 0, else -1; backward as x / reach where |x| <= reach, and no gradient beyond."""

        @staticmethod
        def forward(ctx, x, reach):
            ctx.save_for_backward(x, reach)
            return torch.where(x >= 0, 1.0, -1.0)

        @staticmethod
        def backward(ctx, gradient):
            x, reach = ctx.saved_tensors
            return torch.where(x.abs() <= reach, gradient / reach, 0.0), None

    class WeightSigns(torch.autograd.Function):
        """+1 where w >= 0, else -1; backward as w over its channel's mean |w|."""

        @staticmethod
        def forward(ctx, weight):
            ctx.save_for_backward(weight)
            return torch.where(weight >= 0, 1.0, -1.0)

        @staticmethod
        def backward(ctx, gradient):
            weight, = ctx.saved_tensors
            magnitude = weight.abs().flatten(1).mean(1).clamp(min=torch.finfo(weight.dtype).tiny)
            return gradient / magnitude.view(-1, *[1] * (weight.dim() - 1))

    class XnorLayer(nn.Module):
        """A Conv2d or Linear that computes with signs, as its packed form will."""

        momentum = 0.05

        def __init__(self, layer: nn.Module):
            super().__init__()
            self.layer = layer
            self.register_buffer("mean", torch.tensor(0.0))
            self.register_buffer("spread", torch.tensor(0.0))

        def forward(self, x):
            if self.training:
                self._watch(x.detach())
            inputs, weight = Signs.apply(x - self.mean, self.spread.clone()), WeightSigns.apply(self.layer.weight)
            if isinstance(self.layer, nn.Linear):
                sums = nn.functional.linear(inputs, weight)
            else:
                sums = nn.functional.conv2d(inputs, weight, None, **geometry(self.layer))
            channel = (-1, *[1] * (x.dim() - 2))
            scale, bias = self._scale(self.layer.weight), self._bias(self.layer.weight, weight)
            return sums * scale.view(channel) + bias.view(channel)

        def _watch(self, x):
            """Moves the mean and the distance from it towards this batch's; the first batch sets them."""
            step = self.momentum if self.spread > 0 else 1.0
            self.mean.lerp_(x.mean(), step)
            self.spread.lerp_((x - self.mean).abs().mean(), step)

        def _scale(self, weight):
            """float32 [outputs]: what one product of signs stands for."""
            return weight.abs().flatten(1).mean(1) * self.spread

        def _bias(self, weight, signs):
            """float32 [outputs]: the bias, and what the inputs' mean brings."""
            offset = self.mean * weight.abs().flatten(1).mean(1) * signs.flatten(1).sum(1)
            return offset if self.layer.bias is None else self.layer.bias + offset

        def wanted(self) -> Bits:
            """Signs about the inputs' mean; EmptyRange if they were all alike or not finite."""
            if not 0 < float(self.spread) < float("inf"):
                raise EmptyRange(f"xnor: the inputs' mean distance from their mean is {float(self.spread):g}; it must be"
                                 " finite and not zero")
            return Bits(float(self.mean))

        def deploy(self, given, low, high) -> Deployed:
            """See `Prepared`. SpaceError if a channel's scale is zero or not finite."""
            weight = self.layer.weight.detach()
            scale, signs = self._scale(weight), WeightSigns.apply(weight)
            wrong = (~(torch.isfinite(scale) & (scale > 0))).nonzero().flatten().tolist()
            if wrong:
                raise SpaceError(f"xnor: channel {wrong[0]} has scale {float(scale[wrong[0]]):g}; it must be finite and not zero")
            inputs = weight.shape[1] * getattr(self.layer, "groups", 1)
            tensors = {"weight": pack_signs(signs > 0), "scale": scale, "bias": self._bias(weight, signs).detach()}
            return Deployed(op_for(self.layer, "binary_"), tensors,
                            {"channels": inputs, **geometry(self.layer), "low": low, "high": high})

    return XnorLayer
