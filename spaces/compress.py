"""From a trained network to one that trains as it will be deployed: the phases of every layer's chain.

Structure is removed first, through the dependency graph of the whole network (Fang et al., DepGraph,
2023); batch norms are then recalibrated and folded, so that what follows works on the weights that
are deployed: factorise, sparsify, quantise. Each phase ends in all layers before the next begins.
Norms then come back for the training to come (`spaces.norms`).
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import fx, nn

from spaces.candidate import Chain
from spaces.gene import SpaceError, placed
from spaces.integer_sums import give_types
from spaces.method import FACTORISE, QUANTISE, SPARSIFY, STORE, STRUCTURE, Compression
from spaces.norms import fold_norms, norms_of, put_back
from spaces.recipe import Hooks, Run
from spaces.site import Calibration, Site
from spaces.trace import finite, trace

Choice = tuple[str, Compression]
Chains = Mapping[str, Chain]


def prepare(network: nn.Module, chains: Chains, calibration: Calibration, warm: Callable[[nn.Module], None]) -> fx.GraphModule:
    """The network with compressions in place, ready to be trained on, then frozen.

    chains: by the path of a layer, what is done to it. calibration: images that methods may look at. warm: runs training images through a
    network in training mode, which sets batch-norm statistics and activation ranges. SpaceError names the layer that cannot be compressed
    as asked. `network` is used up.
    """
    sites = list(_sites(chains, STRUCTURE))
    if sites:
        remove_channels(network, sites, calibration)
        warm(network)
    traced = trace(network)
    norms, graph = norms_of(traced), fold_norms(traced)
    for phase in (FACTORISE, SPARSIFY, QUANTISE):
        prepared = (pair for path, method in _sites(chains, phase) for pair in _prepared(graph, path, method, calibration))
        # Quantised layers have no ranges yet, so that nothing could be seen behind them: these are put in place together.
        for target, module in list(prepared) if phase == QUANTISE else prepared:
            graph.set_submodule(target, module)
    quantised = any(_sites(chains, QUANTISE))
    if quantised:
        give_types(graph)
    if put_back(graph, norms) or quantised:
        warm(graph)
    return graph


def before(chains: Chains) -> "list[Before]":
    """What compressions do in the training before they are applied."""
    return [Before(path, method) for phase in range(STORE) for path, method in _sites(chains, phase)]


@dataclass(frozen=True)
class Before:
    """A compression's part in the training before it is applied, as a recipe has one."""

    path: str
    method: Compression

    def hooks(self, run: Run) -> Hooks:
        """The part in a run that begins."""
        return self.method.before(run.network.get_submodule(self.path), run) or Hooks()


def coded(chains: Chains) -> tuple[str, ...]:
    """The paths of the layers whose stored tensors are entropy coded."""
    return tuple(path for path, _ in _sites(chains, STORE))


def remove_channels(network: nn.Module, sites: list[Choice], calibration: Calibration) -> None:
    """Removes what each site's method names, in every layer that depends on it, in place.

    Ranking is independent ([18]): every choice is made on the weights as they are. Where the outputs of
    two sites are coupled (by a residual), the first decides; SpaceError if the second asks for another share.
    """
    graph = trace(network)
    chosen = [(path, method, _chosen(Site(network.get_submodule(path), path, graph, calibration), method)) for path, method in sites]
    decided: dict[str, Choice] = {}
    for path, method, channels in chosen:
        if path in decided:
            _check_agreement(decided[path], (path, method))
            continue
        decided.update(dict.fromkeys(_remove(network, path, channels, calibration.images[:1]), (path, method)))


def _chosen(site: Site, method: Compression) -> list[int]:
    with placed(f"{site.path}: {method}"):
        return method.removed(site)


def _remove(network: nn.Module, path: str, channels: list[int], example: torch.Tensor) -> list[str]:
    """Removes output channels of the layer at `path`; `example`: one image. Returns the paths of all layers that lost outputs."""
    import torch_pruning

    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(network.eval(), example)
        layer = network.get_submodule(path)
        everything = graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, [0])
        if channels:
            group = graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, channels)
            if not graph.check_pruning_group(group):
                raise SpaceError(f"{path}: a layer whose outputs are added to its own would lose all of them; remove fewer")
            group.prune()
    names = {id(module): name for name, module in network.named_modules()}
    return [names[id(dep.target.module)] for dep, _ in everything
            if graph.is_out_channel_pruning_fn(dep.handler) and id(dep.target.module) in names]


def removable(network: nn.Module, path: str, images: torch.Tensor) -> bool:
    """Whether output channels of the layer at `path` can be removed from an untraced network, tried on every third: if it computes before
    all others that lose outputs with it, and the network then computes what it does with them at zero."""
    try:
        removed, masked = copy.deepcopy(network), copy.deepcopy(network)
        channels = list(range(0, network.get_submodule(path).out_channels, 3))
        lost = _remove(removed, path, channels, images[:1])
        if next(node.target for node in trace(network).graph.nodes if node.target in lost) != path:
            return False
        _silence(masked, path, channels, images[:1])
        with torch.no_grad():
            found, expected = removed.eval()(images), masked.eval()(images)
    except Exception:  # whatever a removal that does not fit breaks, here or in the network
        return False
    same = found.shape == expected.shape  # as it is not where the logits' own channels went
    return same and torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
def _silence(network: nn.Module, path: str, channels: list[int], example: torch.Tensor) -> None:
    """Puts zeros where `_remove` would remove outputs, in their norms, too."""
    import torch_pruning

    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(network.eval(), example)
        group = graph.get_pruning_group(network.get_submodule(path), torch_pruning.prune_conv_out_channels, channels)
    for dep, indices in group:
        if graph.is_out_channel_pruning_fn(dep.handler):
            for parameter in dep.target.module.parameters():
                parameter[indices] = 0


def _check_agreement(first: Choice, second: Choice) -> None:
    if first[1] != second[1]:
        raise SpaceError(f"{second[0]}: {second[1]} contradicts {first[1]} of {first[0]}, whose outputs are added"
                         " to its own; ask for the same share or for one of the two")


def _sites(chains: Chains, phase: int) -> Iterator[Choice]:
    return ((path, method) for path, chain in chains.items() for method in chain if method.PHASE == phase)


def _prepared(graph: fx.GraphModule, path: str, method: Compression, calibration: Calibration) -> Iterator[tuple[str, nn.Module]]:
    """What stands in the place of each layer at a path, several where it was factorised."""
    site = graph.get_submodule(path)
    inner = [f"{path}.{name}" for name, _ in site.named_children()] if isinstance(site, nn.Sequential) else [path]
    for target in inner:
        layer = graph.get_submodule(target)
        if not all(finite(parameter) for parameter in layer.parameters()):
            raise SpaceError(f"{target}: the trained weights are not finite, so {method} cannot compress them")
        with placed(target):
            yield target, method.prepare_at(Site(layer, target, graph, calibration))
