"""Which numbers of a larger network's weights a block takes when all candidates of a space share them (Yu et al., 2019; Cai et al.,
2020), so that a channel means the same in each.

A block's module is followed from input to output. Each convolution begins an axis of channels of its own, of which narrower ones
take the first; what only passes channels on (norms, activations, pools, depthwise filters) takes the same. A concatenation puts axes one
behind the other at the places that the widest need, so that the second half stays the second half. Where two tensors are summed or
multiplied, a convolution that ends there takes the other's channels. No block says anything of this itself.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from spaces.trace import trace

JOINED = {operator.add, torch.add, operator.iadd, operator.mul, torch.mul, operator.imul}
Index = tuple[int, ...]


@dataclass
class _Axis:
    """`count` channels that a layer begins: the first of the axis `name`, or those of other channels if it was joined to them."""

    name: str
    count: int
    joined: "_Channels | None" = None


@dataclass(frozen=True)
class _Channels:
    """A tensor's channels: axes behind each other, or known places."""

    axes: tuple[_Axis, ...] = ()
    known: Index | None = None

    def index(self, size_of: Callable[[str], int]) -> Index:
        """Where they are in the widest tensor; `size_of(name)`: channels of the widest axis."""
        if self.known is not None:
            return self.known
        if len(self.axes) == 1:
            axis, = self.axes
            return axis.joined.index(size_of) if axis.joined else tuple(range(axis.count))
        found, start = [], 0
        for axis in self.axes:
            found += [start + place for place in _Channels((axis,)).index(size_of)]
            start += size_of(axis.name)
        return tuple(found)

    @property
    def free(self) -> _Axis | None:
        """The one axis, if it may still be joined to another tensor's channels."""
        return self.axes[0] if len(self.axes) == 1 and self.axes[0].joined is None else None


@dataclass(frozen=True)
class Aligned:
    """A block's `axes` by name with their channels, but for joined ones; `parameters`: the channels of each dimension by name, None for
    a dimension of pixels; `out`: those of the block's result."""

    axes: dict[str, int]
    parameters: dict[str, tuple[_Channels | None, ...]]
    out: _Channels


def follow(block: nn.Module, given: Index) -> Aligned:
    """`given`: where the input's channels are in the widest input."""
    graph = trace(block)
    modules, values, axes, parameters = dict(graph.named_modules()), {}, [], {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            values[node] = _Channels(known=given)
        elif node.op == "output":
            kept = {axis.name: axis.count for axis in axes if axis.joined is None}
            return Aligned(kept, parameters, values[node.args[0]])
        elif node.op == "call_module":
            values[node] = _through(modules[node.target], node.target, values[node.args[0]], axes, parameters)
        elif node.target is torch.cat:
            values[node] = _Channels(tuple(axis for part in node.args[0] for axis in values[part].axes))
        elif node.target in JOINED:
            values[node] = _joined([values[operand] for operand in node.args if operand in values])
        else:
            values[node] = values[node.args[0]]
    raise ValueError(f"{type(block).__name__} has no output")


def _through(layer: nn.Module, path: str, x: _Channels, axes: list[_Axis], parameters: dict) -> _Channels:
    """The channels behind a layer; notes those of its parameters."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        pixels = (None,) * (layer.weight.dim() - 2)
        if getattr(layer, "groups", 1) > 1:
            out, weight = x, (x, None, *pixels)
        else:
            axes.append(_Axis(path, layer.weight.shape[0]))
            out = _Channels((axes[-1],))
            weight = (out, x, *pixels)
        parameters[f"{path}.weight"] = weight
        if layer.bias is not None:
            parameters[f"{path}.bias"] = (out,)
        return out
    for name, _ in layer.named_parameters():  # of norms: one number a channel
        parameters[f"{path}.{name}"] = (x,)
    return x


def _joined(operands: list[_Channels]) -> _Channels:
    """The channels of a sum or product: those of the operand that has its own already, which a free one takes over."""
    fixed = next((operand for operand in operands if operand.free is None), operands[0])
    for operand in operands:
        if operand.free is not None and fixed.free is None:
            operand.free.joined = fixed
    return fixed
