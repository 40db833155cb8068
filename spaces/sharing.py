"""The tensors that all candidates of a space share: per place, block and parameter the smallest that holds every candidate's part
(Yu et al., 2019; Cai et al., 2020). Where channels lie is `spaces.alignment`'s; smaller kernels are the middle of larger ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import nn

from spaces.alignment import Aligned, Index, follow
from spaces.block import Block
from spaces.build import build_layer
from spaces.candidate import Candidate, Layer
from spaces.gene import SpaceError
from spaces.places import Place, placed_layers, places
from spaces.space import Space

Dims = tuple[Index | int, ...]


@dataclass(frozen=True)
class Part:
    """A candidate's parameter: the shared tensor's `key` and, by dimension, the places of channels or the number of pixels."""

    key: str
    dims: Dims

    def of(self, shared: torch.Tensor) -> torch.Tensor:
        """Its numbers, in which gradients flow back to the shared tensor."""
        for dim, where in enumerate(self._where):
            if isinstance(where, torch.Tensor):
                shared = shared.index_select(dim, where.to(shared.device))
            elif where[1] != shared.shape[dim]:
                start, count = where
                shared = shared.narrow(dim, (shared.shape[dim] - count) // 2 if start is None else start, count)
        return shared

    @cached_property
    def _where(self) -> list:
        """By dimension the places as a tensor, or where they begin (None: they are the middle) and how many they are."""
        return [(None, dim) if isinstance(dim, int) else (0, len(dim)) if dim == tuple(range(len(dim))) else torch.tensor(dim)
                for dim in self.dims]


@dataclass(frozen=True)
class Piece:
    """A layer of a candidate: its `module`, whose own numbers mean nothing, the part of each of its parameters, and where its
    results' channels are in the widest result."""

    module: nn.Module
    parts: dict[str, Part]
    out: Index


@dataclass
class Sharing:
    """`shapes` of the shared tensors by key, for images of `input_shape`."""

    space: Space
    input_shape: tuple[int, int, int]
    shapes: dict[str, list[int]] = field(default_factory=dict)
    _axes: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    _pieces: dict[tuple, Piece] = field(default_factory=dict)

    def __post_init__(self):
        outs: dict[str, dict[int, set[Index]]] = {}
        self._places = places(self.space)
        for place in self._places:
            outs[place.name] = self._measured(place, outs)

    def parts(self, candidate: Candidate) -> dict[str, Part]:
        """What the network `build` gives takes of each shared tensor, by parameter name. SpaceError as for `pieces`."""
        return {f"layers.{number}.{parameter}": part for number, piece in enumerate(self.pieces(candidate))
                for parameter, part in piece.parts.items()}

    def pieces(self, candidate: Candidate) -> list[Piece]:
        """The layers of a candidate; candidates have those in common in which they agree. SpaceError if the space has no such candidate,
        or it cannot be built."""
        given, size, found = tuple(range(self.input_shape[0])), self.input_shape[1:], []
        for number, (name, layer) in enumerate(zip(placed_layers(self._places, candidate), candidate.layers)):
            key = name, layer.block, layer.width, layer.stride, given, size
            if key not in self._pieces:
                self._pieces[key] = self._piece(name, layer, build_layer(layer, number, len(given), list(size)), given)
            found.append(self._pieces[key])
            given, size = found[-1].out, tuple(-(-side // layer.stride) for side in size)
        return found

    def _piece(self, name: str, layer: Layer, module: nn.Module, given: Index) -> Piece:
        aligned = follow(module, given)
        parts = {parameter: Part(_key(name, layer.block, parameter), dims)
                 for parameter, dims in self._dims(name, layer.block, aligned, _shapes(module)).items()}
        return Piece(_of_the_batch(module), parts, aligned.out.index(self._size_at(name, layer.block)))

    def _measured(self, place: Place, outs: dict) -> dict[int, set[Index]]:
        """Grows the shapes by all that may stand at a place; returns where its results' channels may lie, by width."""
        found: dict[int, set[Index]] = {}
        followed = list(self._followed(place, outs))
        for block, _, _, aligned in followed:
            axes = self._axes.setdefault((place.name, block.name), {})
            for axis, count in aligned.axes.items():
                axes[axis] = max(axes.get(axis, 0), count)
        for block, width, shapes, aligned in followed:
            for parameter, dims in self._dims(place.name, block, aligned, shapes).items():
                sizes = [where if isinstance(where, int) else max(where) + 1 for where in dims]
                held = self.shapes.setdefault(_key(place.name, block, parameter), sizes)
                held[:] = map(max, held, sizes)
            found.setdefault(width, set()).add(aligned.out.index(self._size_at(place.name, block)))
        return found

    def _followed(self, place: Place, outs: dict) -> Iterator[tuple[Block, int, dict, Aligned]]:
        """Every block, width and stride of a place behind every input that it may have."""
        for given_width, givens in _givens(place, outs, self.input_shape[0]).items():
            for block in place.blocks:
                for width in place.widths:
                    if place.same_width and width != given_width:
                        continue
                    for stride in place.strides:
                        module = _module(block, given_width, width, stride)
                        for given in givens if module is not None else ():
                            yield block, width, _shapes(module), follow(module, given)

    def _dims(self, name: str, block: Block, aligned: Aligned, shapes: dict[str, tuple[int, ...]]) -> dict[str, Dims]:
        size_at = self._size_at(name, block)
        return {parameter: tuple(shapes[parameter][dim] if where is None else where.index(size_at) for dim, where in enumerate(places))
                for parameter, places in aligned.parameters.items()}

    def _size_at(self, name: str, block: Block):
        return self._axes[name, block.name].__getitem__


def _of_the_batch(module: nn.Module) -> nn.Module:
    """In training mode, its batch norms without statistics of their own: those of a mixture of candidates would mean nothing."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    return module.train()


def _givens(place: Place, outs: dict, channels: int) -> dict[int, set[Index]]:
    """Where the input's channels may lie, by width."""
    if not place.before:
        return {channels: {tuple(range(channels))}}
    found: dict[int, set[Index]] = {}
    for before in place.before:
        for width, indices in outs[before].items():
            found.setdefault(width, set()).update(indices)
    return found


def _module(block: Block, inputs: int, width: int, stride: int) -> nn.Module | None:
    """The block without numbers; None where it is impossible, such as candidates that fail."""
    try:
        with torch.device("meta"):
            return block.build(inputs, width, stride)
    except SpaceError:
        return None


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def _key(name: str, block: Block, parameter: str) -> str:
    return f"{name} {block.name} {parameter}"
