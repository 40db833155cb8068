"""Layers on their way to deployment: what freezing asks of a layer, whatever compressed it.

A layer in training is a plain Conv2d or Linear, possibly with its weight parametrised (masked), or a
`Prepared` module of a compression file. Freezing asks it for a `Deployed`: the op it becomes, the
tensors that are stored and the op's other arguments.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn.utils import parametrize

from spaces.gene import SpaceError


class EmptyRange(SpaceError):
    """Activations that were always zero, or not finite: training may still change that."""


@dataclass(frozen=True)
class Affine:
    """How a uint8 tensor stands for real numbers: (steps - zero_point) * scale. `scale` is a float32 value, or one for each
    channel of an image that a depthwise convolution reads."""

    scale: float | tuple[float, ...]
    zero_point: int

    def conversion(self) -> tuple[str, tuple]:
        """The deployed op that gives this type from float32, and its arguments."""
        return "quantize", (self.scale, self.zero_point)


@dataclass(frozen=True)
class Bits:
    """How packed signs stand for real numbers: set where they reach `threshold`, a float32 value."""

    threshold: float

    def conversion(self) -> tuple[str, tuple]:
        """The deployed op that gives this type from float32, and its arguments."""
        return "binarize", (self.threshold,)


@dataclass(frozen=True)
class Packed:
    """A tensor as it is stored: the deployed op `op` (`unpack_<format>`) gives it from `arguments` by name: stored tensors,
    other packed ones, numbers."""

    op: str
    arguments: dict[str, object]

    @property
    def stored_bytes(self) -> int:
        """Bytes of all stored tensors."""
        return sum(stored_bytes(value) for value in self.arguments.values())


@dataclass(frozen=True)
class Deployed:
    """A layer as a deployed op: its name, tensors by argument (stored as they are, or packed), other arguments by name."""

    op: str
    tensors: dict[str, torch.Tensor | Packed]
    arguments: dict[str, object]


class Prepared(Protocol):
    """A layer that trains as it will compute. `wanted` is the type its inputs must have, if not float."""

    def wanted(self) -> Affine | Bits: ...

    def deploy(self, given: Affine | None, low: float, high: float) -> Deployed:
        """The deployed op. `given`: the uint8 type that its outputs must have, None for float (always where `wanted` is
        no Affine); [low, high]: the activation that follows, as a clamp."""
        ...


class Mask(nn.Module):
    """A parametrisation that keeps the weights under a fixed mask at zero, whatever the optimiser does."""

    def __init__(self, mask: torch.Tensor):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight):
        return weight * self.mask

    def scale(self, factor: float) -> None:
        """Told that the weights under it were multiplied by a positive number."""

    def pack(self, weight: torch.Tensor) -> Packed:
        """Bitmap and kept values."""
        return bitmap(weight, weight[weight != 0])


def check_unshared(layer: nn.Module, method: object) -> None:
    """SpaceError if an earlier compression made the layer's weights share numbers: a mask on them would store them all."""
    if parametrize.is_parametrized(layer, "weight"):
        raise SpaceError(f"{method}: the weights share numbers already, and zeros among them would undo that; take one of the two")


def masked(layer: nn.Module) -> bool:
    """Whether some of the layer's weights are kept at zero."""
    return any(isinstance(module, Mask) for module in layer.modules())


def bitmap(weight: torch.Tensor, values: torch.Tensor | Packed) -> Packed:
    """A sparse tensor as one bit a number, row-major, lowest bit of a byte first, and its non-zero `values` in order."""
    return Packed("unpack_bitmap", {"bitmap": packed_bits(weight != 0), "values": values, "shape": list(weight.shape)})


def packed_bits(mask: torch.Tensor) -> torch.Tensor:
    """A boolean tensor as uint8 [ceil(n / 8)], row-major, lowest bit of a byte first."""
    padded = nn.functional.pad(mask.flatten().to(torch.uint8), (0, -mask.numel() % 8)).view(-1, 8)
    return (padded << torch.arange(8, dtype=torch.uint8)).sum(1).to(torch.uint8)


def stored_form(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor | Packed:
    """The layer's weights as its parametrisations store them: the last one that can pack them does, where that is
    smaller."""
    packers = [module for module in layer.modules() if hasattr(module, "pack")]
    packed = packers[-1].pack(weight) if packers else weight
    return packed if stored_bytes(packed) < weight.nbytes else weight


def stored_bytes(value: object) -> int:
    """Bytes of a tensor, plain or packed; none for anything else."""
    return value.nbytes if isinstance(value, torch.Tensor) else getattr(value, "stored_bytes", 0)


def geometry(layer: nn.Module) -> dict[str, object]:
    """The arguments of a convolution's op beside its tensors; none for a dense layer.

    ValueError names what a deployed convolution cannot do.
    """
    if isinstance(layer, nn.Linear):
        return {}
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ValueError(f"padding {layer.padding_mode} {layer.padding}: deployed convolutions pad with zeros, by number")
    return {"stride": list(layer.stride), "padding": list(layer.padding),
            "dilation": list(layer.dilation), "groups": layer.groups}


def op_for(layer: nn.Module, prefix: str = "") -> str:
    """The deployed op of a plain layer: `conv2d` or `linear`, behind a prefix such as `int8_`."""
    return prefix + ("linear" if isinstance(layer, nn.Linear) else "conv2d")


def bias_of(layer: nn.Module) -> torch.Tensor:
    """The bias, zeros where the layer has none; float32 [outputs]."""
    return torch.zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias.detach()
