"""8-bit integers for weights and activations (Vanhoucke et al., 2011 [46]; Jacob et al., 2018).

Weights: signed, symmetric, one scale an output channel, by the largest magnitude. Activations:
unsigned with a zero point, one scale a tensor, over the range seen in training. Trained with
straight-through estimators (rounded forward, identity backward inside the range); frozen to
`int8_conv2d` or `int8_linear`: int32 sums, requantised in integers.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import SpaceError
from spaces.method import QUANTISE, Compression

LARGEST_SUM = 2**31 - 1


@dataclass(frozen=True)
class Int8(Compression):
    """8-bit weights per channel and 8-bit activations, integer arithmetic."""

    SOURCE: ClassVar[str] = "Vanhoucke et al., 2011 [46]; Jacob et al., 2018"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: a quarter; time: integer kernels"

    def prepare(self, layer):
        return _module()(layer)


def _module():
    import torch
    from torch import nn

    from spaces.prepared import Affine, Deployed, EmptyRange, bias_of, geometry, op_for
    from spaces.requantise import fixed_point

    class Int8Layer(nn.Module):
        """A Conv2d or Linear that computes with the values its 8-bit form will have."""

        momentum = 0.05

        def __init__(self, layer: nn.Module):
            super().__init__()
            self.layer = layer
            self.register_buffer("low", torch.tensor(0.0))
            self.register_buffer("high", torch.tensor(0.0))

        def forward(self, x):
            if self.training:
                self._watch(x.detach())
            if self.high > self.low:
                wanted = self.wanted()
                x = torch.fake_quantize_per_tensor_affine(x, wanted.scale, wanted.zero_point, 0, 255)
            scale = self.weight_scale()
            weight = torch.fake_quantize_per_channel_affine(
                self.layer.weight, scale, torch.zeros_like(scale, dtype=torch.int32), 0, -127, 127)
            if isinstance(self.layer, nn.Linear):
                return nn.functional.linear(x, weight, self.layer.bias)
            return nn.functional.conv2d(x, weight, self.layer.bias, **geometry(self.layer))

        def _watch(self, x):
            """Moves the range towards this batch's; the first batch sets it. The range holds zero."""
            low, high = torch.aminmax(x)
            step = self.momentum if self.high > self.low else 1.0
            self.low.lerp_(low.clamp(max=0), step)
            self.high.lerp_(high.clamp(min=0), step)

        def wanted(self) -> Affine:
            """The inputs' type; EmptyRange if no range was seen or it is not finite."""
            low, high = float(self.low), float(self.high)
            if not 0 < high - low < float("inf"):
                raise EmptyRange(f"int8: the inputs' range is {low:g} to {high:g}; it must be finite and not empty")
            scale = float(torch.tensor((high - low) / 255, dtype=torch.float32))
            return Affine(scale, min(255, max(0, round(-low / scale))))

        def weight_scale(self) -> torch.Tensor:
            """float32 [outputs]; a channel of zeros has scale 1."""
            largest = self.layer.weight.detach().abs().flatten(1).amax(1)
            return torch.where(largest > 0, largest / 127, 1.0)

        def deploy(self, given, low, high) -> Deployed:
            wanted, scale = self.wanted(), self.weight_scale()
            weight = torch.round(self.layer.weight.detach() * (1 / scale).view(-1, *[1] * (self.layer.weight.dim() - 1)))
            weight = weight.clamp(-127, 127).to(torch.int8)
            steps = scale.double() * wanted.scale
            bias = torch.round(bias_of(self.layer).double() / steps)
            bias -= wanted.zero_point * weight.flatten(1).double().sum(1)
            _check_sums(weight, bias)
            tensors = {"weight": weight, "bias": bias.to(torch.int32)}
            arguments = geometry(self.layer)
            if arguments:
                arguments["zero_point"] = wanted.zero_point
            more, rest = _to_float(steps, low, high) if given is None else _to_uint8(steps, given, low, high)
            return Deployed(op_for(self.layer, "int8_"), {**tensors, **more}, {**arguments, **rest})

    def _to_float(steps, low, high):
        tensors = {"scale": steps.to(torch.float32), "shift": torch.zeros(len(steps), dtype=torch.int32)}
        return tensors, {"out_zero_point": 0, "low": low, "high": high}

    def _to_uint8(steps, given, low, high):
        scale, shift = fixed_point(steps / given.scale)
        clamp = [min(255.0, max(0.0, given.zero_point + round(max(-1e6, min(1e6, bound / given.scale)))))
                 for bound in (low, high)]
        return ({"scale": scale, "shift": shift},
                {"out_zero_point": given.zero_point, "low": float(clamp[0]), "high": float(clamp[1])})

    def _check_sums(weight, bias):
        most = 255 * weight.flatten(1).double().abs().sum(1) + bias.abs()
        if not bool((most <= LARGEST_SUM).all()):
            raise SpaceError(f"int8: sums can reach {float(most.max()):.3g}, past 32 bits; keep this layer in float")

    return Int8Layer
