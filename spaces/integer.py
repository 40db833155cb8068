"""Layers that compute in integers (Jacob et al., 2018, section 2): activations unsigned with 8 bits and a zero point, one
scale a tensor, over the range seen in training; weights whole steps of one scale an output channel, in int8 or fewer
bits. Trained with straight-through estimators (rounded forward; identity backward, for activations inside the range);
frozen to `int8_conv2d` or `int8_linear`: int32 sums, and one product each to requantise them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from spaces.affine_range import AffineRange
from spaces.gene import SpaceError, placed
from spaces.prepared import Affine, Deployed, Packed, bias_of, bitmap, geometry, masked, op_for, stored_bytes
from spaces.requantise import SMALLEST, clamp_steps

LARGEST_SUM, LARGEST_BIAS = 2**31 - 1, 2**30


@dataclass(frozen=True)
class Steps:
    """Weights as whole steps. `scale(weight)`: float32 [outputs], one step of each channel; `round(weight, scale)`: the
    steps, whole numbers -127 to 127 in float32; `store(steps)`: int8 steps as they are stored. `name` stands in
    messages; `homogeneous`: whether the weights times a number have the same steps."""

    name: str
    scale: Callable[[torch.Tensor], torch.Tensor]
    round: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    store: Callable[[torch.Tensor], torch.Tensor | Packed]
    homogeneous: bool = False


def symmetric(name: str, most: int, store: Callable) -> Steps:
    """The nearest of the steps -most to most, which is the channel's largest magnitude; a channel of zeros has scale 1."""
    def scale(weight):
        return unless_zero(weight.abs().flatten(1).amax(1) / most)

    def rounded(weight, scale):
        return torch.round(weight * by_channel(1 / scale, weight)).clamp(-most, most)
    return Steps(name, scale, rounded, store, homogeneous=True)


def unless_zero(scale: torch.Tensor) -> torch.Tensor:
    """The scales, 1 for a channel of zeros: it has no step but zero."""
    return torch.where(scale == 0, 1.0, scale)


def by_channel(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """[outputs] in the shape that multiplies a weight [outputs, ...]."""
    return values.view(-1, *[1] * (weight.dim() - 1))


class StraightThrough(torch.autograd.Function):
    """Gives `realised`, and hands its gradient to `weight` as it is (Bengio et al., 2013)."""

    @staticmethod
    def forward(ctx, weight, realised):
        return realised.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class IntegerLayer(AffineRange):
    """A Conv2d or Linear that computes with the values its integer form will have; the range is its inputs'."""

    def __init__(self, layer: nn.Module, steps: Steps):
        super().__init__(steps.name)
        self.layer, self.steps = layer, steps

    def forward(self, x):
        x, weight = super().forward(x), self.learnt()
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(x, weight, self.layer.bias)
        return nn.functional.conv2d(x, weight, self.layer.bias, **geometry(self.layer))

    def learnt(self) -> torch.Tensor:
        """The weights that the layer computes with, as they learn."""
        return StraightThrough.apply(self.layer.weight, self.realised())

    def realised(self) -> torch.Tensor:
        """The weights that the layer computes with."""
        scale = self.weight_scale()
        return self.whole(scale) * by_channel(scale, self.layer.weight)

    def whole(self, scale: torch.Tensor) -> torch.Tensor:
        """The weights in steps of that scale."""
        return self.steps.round(self.layer.weight.detach(), scale)

    def weight_scale(self) -> torch.Tensor:
        """float32 [outputs]: one step of each channel's weights."""
        return self.steps.scale(self.layer.weight.detach())

    def deploy(self, given, low, high) -> Deployed:
        """See `Prepared`. SpaceError if a channel's scale is zero or not finite, or sums could overflow."""
        wanted, scale = self.wanted(), self.weight_scale()
        self._check_scale(scale)
        weight, bias = self.whole(scale).to(torch.int8), bias_of(self.layer)
        weight, scale = _without_lost(weight, bias, scale, wanted)
        with placed(self.steps.name):
            tensors, arguments = integer_form(weight, bias, scale, wanted, given, low, high)
        padding = {"zero_point": wanted.zero_point} if geometry(self.layer) else {}
        return Deployed(op_for(self.layer, "int8_"), {"weight": self._stored(weight), **tensors},
                        {**geometry(self.layer), **padding, **arguments})

    def _stored(self, weight):
        """The packed steps: of a masked layer those that are not zero, where that is smaller."""
        whole, kept = self.steps.store(weight), weight[weight != 0]
        if not masked(self.layer) or not kept.numel():
            return whole
        return min(whole, bitmap(weight, self.steps.store(kept)), key=stored_bytes)

    def _check_scale(self, scale):
        wrong = (~(torch.isfinite(scale) & torch.isfinite(1 / scale))).nonzero().flatten().tolist()
        if wrong:
            raise SpaceError(f"{self.steps.name}: the weights of channel {wrong[0]} have scale {float(scale[wrong[0]]):g};"
                             " it must be finite and not zero")


def _without_lost(weight, bias, scale, wanted: Affine):
    """Zeros for channels whose weights are so small beside their bias that it is past 32 bits in their steps, as those of channels that
    training has given up; and a step that holds the bias."""
    least = (bias.abs() / (wanted.scale * LARGEST_BIAS)).to(scale)
    lost = scale < least
    return torch.where(by_channel(lost, weight), 0, weight), torch.where(lost, least, scale)


def integer_form(weight: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor, wanted: Affine, given: Affine | None,
                 low: float, high: float) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """The tensors beside the weights, and the arguments of the epilogue, of an integer layer.

    weight: int8 steps [O, ...]; bias: real numbers [O]; scale: one step of each channel's weights [O]; wanted, given: the types
    of inputs and outputs (None: float); [low, high]: the activation that follows, in real numbers. SpaceError if sums could
    overflow.
    """
    steps = scale.to(torch.float32) * torch.tensor(wanted.scale, dtype=torch.float32)
    whole = torch.round(bias.double() / steps.double()) - wanted.zero_point * weight.flatten(1).double().sum(1)
    most = 255 * weight.flatten(1).double().abs().sum(1) + whole.abs()
    if not bool((most <= LARGEST_SUM).all()):
        raise SpaceError(f"sums can reach {float(most.max()):.3g}, past 32 bits; keep this layer in float")
    more, rest = _to_float(steps, low, high) if given is None else _to_uint8(steps, given, low, high)
    return {"bias": whole.to(torch.int32), **more}, rest


def _to_float(steps, low, high):
    return {"scale": steps}, {"low": low, "high": high, "out_zero_point": None}


def _to_uint8(steps, given, low, high):
    scale = steps / torch.tensor(given.scale, dtype=torch.float32)
    if not bool(((scale >= SMALLEST) & torch.isfinite(scale)).all()):
        raise SpaceError(f"a step of the sums is {float(scale.min()):.3g} to {float(scale.max()):.3g} of the result's, which float32"
                         " cannot hold")
    return {"scale": scale}, {"out_zero_point": given.zero_point, **clamp_steps(low, high, given.scale, given.zero_point)}
