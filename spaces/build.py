"""A candidate as a torch module: its blocks stacked, before any compression.

The module of layer i is `layers.<i>`, and its compressible layers are the children named by role.
"""

from torch import nn

from spaces.candidate import Candidate, Layer
from spaces.gene import SpaceError


class Network(nn.Module):
    """The blocks of a candidate in a row: [N, C, H, W] to logits [N, classes]."""

    def __init__(self, modules: list[nn.Module]):
        super().__init__()
        self.layers = nn.Sequential(*modules)

    def forward(self, x):
        return self.layers(x)


def build(candidate: Candidate, input_shape: tuple[int, int, int]) -> Network:
    """The uncompressed network of a candidate for images of `input_shape` (channels, height, width).

    SpaceError names the layer where a stride exceeds the image or a width is impossible.
    """
    channels, *size = input_shape
    modules = []
    for index, layer in enumerate(candidate.layers):
        modules.append(build_layer(layer, index, channels, size))
        channels, size = layer.width, [-(-side // layer.stride) for side in size]
    return Network(modules)


def build_layer(layer: Layer, index: int, channels: int, size: list[int]) -> nn.Module:
    """The module of layer `index`, for maps of `channels` and `size` (height, width). SpaceError as for `build`."""
    if layer.stride > min(size):
        raise SpaceError(f"layer {index} {layer}: stride {layer.stride} is past the {size[0]}x{size[1]} image;"
                         " lower this stride or an earlier one")
    try:
        return layer.block.build(channels, layer.width, layer.stride)
    except SpaceError as error:
        raise SpaceError(f"layer {index} {layer}: {error}") from None
