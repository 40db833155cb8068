"""A convolution as several smaller ones in a row, with no activation between.

Each runs along some of the two axes of an image and takes the layer's stride, padding and dilation there; along the others it is one
pixel wide and takes none. Only the last has a bias, so that what an earlier one gives where it reads nothing but padding is zero, as the
padding of the next is: the row computes what one convolution with the composed weights does.
"""

from dataclasses import dataclass

import torch
from torch import nn

from spaces.gene import SpaceError, placed
from spaces.prepared import geometry
from spaces.trace import finite

HEIGHT, WIDTH = 0, 1


@dataclass(frozen=True)
class Factor:
    """One convolution of the row: `weight` [outputs, inputs / groups, height, width], along these `axes` of the layer."""

    weight: torch.Tensor
    axes: tuple[int, ...] = ()
    groups: int = 1


def whole_weight(layer: nn.Module, method: object) -> torch.Tensor:
    """The weights of a convolution, float64 [N, C, height, width], or of a dense layer [N, C]. SpaceError, naming the method, where they
    cannot be factorised: groups, padding that is not zeros by number, weights that are not finite or all zero."""
    with placed(str(method)):
        geometry(layer)
    if getattr(layer, "groups", 1) > 1:
        raise SpaceError(f"{method}: the layer has {layer.groups} groups; it can have 1")
    weight = layer.weight.detach().double()
    if not torch.isfinite(weight).all():
        raise SpaceError(f"{method}: the weights are not finite")
    if not weight.any():
        raise SpaceError(f"{method}: the weights are all zero, and factors of zero cannot be trained")
    return weight


def in_a_row(layer: nn.Conv2d, *factors: Factor) -> nn.Module:
    """The layer as these factors; as it was where they would not be smaller. SpaceError if float32 cannot hold one."""
    if sum(factor.weight.numel() for factor in factors) >= layer.weight.numel():
        return layer
    parts = [_convolution(layer, factor) for factor in factors]
    parts[-1].bias = layer.bias
    return nn.Sequential(*parts)


def _convolution(layer: nn.Conv2d, factor: Factor) -> nn.Conv2d:
    outputs, inputs, *kernel = factor.weight.shape
    stride, padding, dilation = ([given[axis] if axis in factor.axes else none for axis in (HEIGHT, WIDTH)] for given, none in
                                 ((layer.stride, 1), (layer.padding, 0), (layer.dilation, 1)))
    part = nn.Conv2d(inputs * factor.groups, outputs, kernel, stride, padding, dilation, factor.groups, bias=False)
    with torch.no_grad():
        part.weight.copy_(factor.weight)
    if not finite(part.weight):
        raise SpaceError(f"a factor's weights reach {float(factor.weight.abs().max()):.3g}, which float32 cannot hold")
    return part
