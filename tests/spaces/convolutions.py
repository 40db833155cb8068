"""Convolutions of any geometry, and what rows of them compute and cost."""

import torch
from hypothesis import strategies as st
from torch import nn


@st.composite
def geometries(draw) -> tuple[nn.Conv2d, torch.Tensor]:
    """A convolution whose two axes differ, and images that it fits."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(st.tuples(st.sampled_from([1, 2, 3, 5]), st.sampled_from([1, 2, 3, 5]))), draw(pair), draw(pair)
    padding = tuple(draw(st.integers(0, 3)) for _ in range(2))
    torch.manual_seed(draw(st.integers(0, 1000)))
    layer = nn.Conv2d(draw(st.integers(1, 12)), draw(st.integers(1, 12)), kernel, stride, padding, dilation, bias=draw(st.booleans()))
    size = [d * (k - 1) + draw(st.integers(1, 7)) for k, d in zip(kernel, dilation)]
    return layer, torch.randn(2, layer.in_channels, *size)


def with_weight(layer: nn.Conv2d, weight: torch.Tensor) -> nn.Conv2d:
    """The same convolution with other weights, in float64."""
    other = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation,
                      bias=layer.bias is not None).double()
    other.weight.data = weight.double()
    if layer.bias is not None:
        other.bias.data = layer.bias.data.double()
    return other


def macs(row: nn.Module, x: torch.Tensor) -> int:
    """Multiply-accumulates on one image, by hooks."""
    total = []
    layers = [module for module in row.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(lambda m, i, o: total.append(o[0].numel() * m.weight[0].numel())) for layer in layers]
    row(x)
    [hook.remove() for hook in hooks]
    return sum(total)


def planted(outputs: int, inputs: int, kernel: int, rank: int, seed: int = 0) -> torch.Tensor:
    """Weights [outputs, inputs, kernel, kernel] that are a sum of `rank` outer products of four random vectors."""
    generator = torch.Generator().manual_seed(seed)
    factors = [torch.randn(size, rank, generator=generator, dtype=torch.float64) for size in (outputs, inputs, kernel, kernel)]
    return torch.einsum("nr,cr,yr,xr->ncyx", *factors)
