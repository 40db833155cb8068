"""Weights that take few values while latent ones are trained, and as they are stored: a code a weight and a table of the values, which the
deployed layer reads as floats, with activations in floats.

The methods that come so were published for weights behind which a batch norm follows, with a size for all weights of a layer. Norms are
folded before compression (`spaces.compress`), which gives every channel a size of its own. So a convolution's channels are first
brought to one size, the mean of them all, and a 1x1 depthwise convolution behind gives each its own back, and holds the bias:

    W x + b = (diag(f) (diag(1/f) W)) x + b,    f_o = mean |w_o| / mean over the channels of mean |w|, over weights that are not zero.

A norm comes back behind that one, which takes it up when the network is frozen.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrize

from spaces.codebook import mask_of, packed_codebook
from spaces.gene import SpaceError
from spaces.integer import by_channel, unless_zero
from spaces.prepared import Mask, Packed, bias_of, bitmap, stored_bytes


class Levels(nn.Module):
    """A parametrisation that makes latent weights numbers of a table, at least in eval mode; `mask`: those that stay, None for all."""

    def __init__(self, mask: torch.Tensor | None):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, latent):
        """Latent weights that are not finite stay so, whichever number they would have got."""
        return torch.where(torch.isfinite(latent), self.realised(latent), torch.nan)

    def realised(self, latent: torch.Tensor) -> torch.Tensor:
        """The weights that finite latent ones stand for."""
        raise NotImplementedError

    def table(self) -> torch.Tensor:
        """float32 [entries]: the numbers that weights can be."""
        raise NotImplementedError

    def pack(self, weight: torch.Tensor) -> Packed:
        """A code a weight and the table; under a mask, a bitmap and the codes of what is kept, where that is smaller."""
        table = self.table().detach()
        codes = torch.zeros(weight.shape, dtype=torch.int64)
        for code, number in enumerate(table):
            codes[weight == number] = code
        vectors = table.view(1, -1, 1)
        whole = packed_codebook(codes.flatten(), vectors, list(weight.shape))
        if self.mask is None:
            return whole
        kept = codes[self.mask != 0]
        return min(whole, bitmap(self.mask, packed_codebook(kept, vectors, [len(kept)])), key=stored_bytes)


def with_levels(layer: nn.Module, name: str, levels: Callable[[torch.Tensor, torch.Tensor | None], Levels]) -> nn.Module:
    """The layer, in place, with weights of few values; of a convolution, with its channels' sizes behind it.

    levels: makes the parametrisation of weights and of the mask on them. SpaceError if the weights share numbers or are all zero.
    """
    masks = layer.parametrizations.weight if parametrize.is_parametrized(layer, "weight") else ()
    if not all(isinstance(mask, Mask) for mask in masks):
        raise SpaceError(f"{name}: the weights share numbers already; take one of the two")
    if not bool(layer.weight.any()):
        raise SpaceError(f"{name}: all weights are zero, so that they have no scale")
    prepared = layer if isinstance(layer, nn.Linear) else _sizes_apart(layer)
    parametrize.register_parametrization(layer, "weight", levels(layer.weight.detach(), mask_of(layer)))
    return prepared


def sizes_of(weight: torch.Tensor) -> torch.Tensor:
    """f above, [outputs]; 0 for a channel of zeros, which gives its bias whatever its weights become."""
    size = weight.abs().flatten(1).sum(1) / (weight != 0).flatten(1).sum(1).clamp(min=1)
    return size / size[size > 0].mean()


def latent_of(levels: Levels, network: nn.Module) -> nn.Parameter:
    """The weights of a network that the parametrisation is put on."""
    return next(module.original for module in network.modules()
                if isinstance(module, parametrize.ParametrizationList) and any(part is levels for part in module))


def _sizes_apart(layer: nn.Conv2d) -> nn.Sequential:
    size = sizes_of(layer.weight.detach())
    behind = nn.Conv2d(len(size), len(size), 1, groups=len(size))
    weight = layer.parametrizations.weight.original if parametrize.is_parametrized(layer, "weight") else layer.weight
    with torch.no_grad():
        behind.weight.copy_(size.view(-1, 1, 1, 1))
        behind.bias.copy_(bias_of(layer))
        weight.div_(by_channel(unless_zero(size), weight))
    layer.bias = None
    return nn.Sequential(layer, behind)
