"""Which output channels of a layer go: the lowest of a ranking, or those whose weights, as a group, a penalty has brought to nothing.

A channel's weights are found through the network's dependency graph (Fang et al., DepGraph, 2023). Layers that write it: the layer itself
and those whose outputs are added to its own or multiplied with them; of each the filter of that channel. Layers that read it: of each the
kernels for that input.

Norms hide how large weights are. Behind one, a filter w_n counts in the size that gamma_n gives it, whatever its own is,

    u_n = gamma_n w_n / |w_n|

A penalty on what reads channels then turns w_n and leaves gamma_n, which belongs to no channel that is read, as it is; and one on what
writes them is on their sizes over the root of the mean square of all, where a norm behind every reader would take away a factor of all.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import fx, nn

from spaces.gene import SpaceError
from spaces.integer import by_channel
from spaces.norms import norms_of
from spaces.recipe import Hooks


def lowest(scores: torch.Tensor, keep: float) -> list[int]:
    """The channels of lowest score, ascending, so that the share `keep` of them stays, at least one; of equal ones the first go.

    scores: float [channels], none below 0. SpaceError if they are not finite or all zero, which ranks nothing.
    """
    kept = max(1, round(keep * len(scores)))
    return sorted(_judged(scores).argsort(stable=True)[: len(scores) - kept].tolist())


def under(of_largest: torch.Tensor, threshold: float) -> list[int]:
    """The channels whose share, as `shares` gives it, is under the threshold, ascending; the one of largest share stays."""
    gone = of_largest < threshold
    gone[of_largest.argmax()] = False
    return gone.nonzero().flatten().tolist()


def shares(scores: torch.Tensor) -> torch.Tensor:
    """Each score as a share of the largest. Scores and errors as for `lowest`."""
    return _judged(scores) / scores.detach().max()


def _judged(scores: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(scores).all():
        raise SpaceError("what its channels are judged by is not finite")
    if not scores.max() > 0:
        raise SpaceError("each of its channels counts for 0, so that none is worth more than another; train longer, or weaken a penalty")
    return scores.detach()


@dataclass(frozen=True)
class End:
    """A layer, the norm behind it or None, and what of it belongs to the channels of a group: outputs (`reads`: inputs) number `own` are
    channels number `channels`, both int64 [m]."""

    layer: nn.Module
    norm: nn.BatchNorm2d | None
    reads: bool
    own: torch.Tensor
    channels: torch.Tensor

    def weights(self) -> torch.Tensor:
        """The weights of each of `own`, in the size that they count in: [m, weights]."""
        weight = self._sized()
        return (weight.transpose(0, 1) if self.reads else weight)[self.own].flatten(1)

    def _sized(self) -> torch.Tensor:
        """The u_n above, of the shape of the layer's weights."""
        weight = self.layer.weight
        if self.norm is None:
            return weight
        size = weight.flatten(1).norm(dim=1).clamp(min=torch.finfo(weight.dtype).tiny)
        gamma = self.norm.weight if self.norm.affine else torch.ones_like(size)
        return weight * by_channel((gamma.detach() if self.reads else gamma) / size, weight)

    def shifts(self) -> torch.Tensor:
        """What is added to each of the outputs `own`, the norm's shift or the layer's bias: [m]."""
        shift = self.layer.bias if self.norm is None else self.norm.bias
        return self.layer.weight.new_zeros(len(self.own)) if shift is None else shift[self.own]


@dataclass(frozen=True)
class Channels:
    """So many (`count`) output channels of a layer, and the layers that write and read them. Depthwise convolutions do neither."""

    count: int
    writers: tuple[End, ...]
    readers: tuple[End, ...]

    def sums(self, ends: tuple[End, ...], of: Callable[[End], torch.Tensor]) -> torch.Tensor:
        """By channel the sum of what `of` gives of each end, [m]: [count]."""
        total = ends[0].layer.weight.new_zeros(self.count) if ends else torch.zeros(self.count)
        for end in ends:
            total = total.index_add(0, end.channels, of(end))
        return total

    def written(self) -> torch.Tensor:
        """The Euclidean norm of each channel's filters and their shifts, all layers that write it together, over the root mean square of
        these where norms take that away: [count]."""
        squares = self.sums(self.writers, lambda end: end.weights().square().sum(1) + end.shifts().square())
        hidden = self.readers and all(end.norm is not None for end in self.readers)
        return _root(squares / squares.mean() if hidden and bool(squares.any()) else squares)

    def read(self) -> torch.Tensor:
        """The Euclidean norm of the weights that read each channel, all layers together: [count]."""
        return _root(self.sums(self.readers, lambda end: end.weights().square().sum(1)))

    def reading(self) -> torch.Tensor:
        """How many weights read each channel, all layers together: float [count]."""
        return self.sums(self.readers, lambda end: torch.ones_like(end.weights()).sum(1))


def _root(squares: torch.Tensor) -> torch.Tensor:
    """The square root, whose gradient at zero is zero here."""
    return torch.where(squares != 0, squares, 1).sqrt() * (squares != 0)


def channels_of(layer: nn.Conv2d, network: fx.GraphModule, example: torch.Tensor) -> Channels:
    """The output channels of a layer of a traced network, which is left in eval mode; `example`: one image."""
    import torch_pruning

    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(network.eval(), example)
        group = graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, list(range(layer.out_channels)))
    norms = {network.get_submodule(path): norm for path, norm in norms_of(network).items()}
    ends = [_end(item, not graph.is_out_channel_pruning_fn(item.dep.handler), norms) for item in group if _mixes(item.dep.target.module)]
    return Channels(layer.out_channels, tuple(e for e in ends if not e.reads), tuple(e for e in ends if e.reads))


def _mixes(module: nn.Module) -> bool:
    """Whether each output is computed from all inputs."""
    return isinstance(module, nn.Linear) or isinstance(module, nn.Conv2d) and module.groups == 1


def _end(item, reads: bool, norms: dict[nn.Module, nn.BatchNorm2d]) -> End:
    layer = item.dep.target.module
    own, channels = (torch.tensor(indices, device=layer.weight.device) for indices in (list(item.idxs), list(item.root_idxs)))
    return End(layer, norms.get(layer), reads, own, channels)


class Penalised(Hooks):
    """Adds to the loss of a run what `penalty` gives, a scalar."""

    def __init__(self, penalty: Callable[[], torch.Tensor]):
        self.penalty = penalty
