"""Batch norms that stay while a compressed network trains, and are folded when it is frozen.

Compression works on the weights that are deployed, so norms are folded first (Jacob et al., 2018, section 3.2). A network without any
bears only a low rate, and what compression does to the statistics of its channels goes uncorrected. So each layer that had a norm gets
one back that starts as nothing: it gives the mean and deviation that the first one gave. What it learns is a factor and a shift a
channel, which the layer takes up when it is frozen, if its weights keep their form when a channel is scaled, or if it has `absorb(factor)`
to scale channels by.
"""

import copy

import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from spaces.integer import IntegerLayer, by_channel
from spaces.prepared import Mask, bias_of

NAME = "renorm"


def fold_norms(graph: fx.GraphModule) -> fx.GraphModule:
    """Every batch norm behind a layer that takes it up is folded into it (Jacob et al., 2018, section 3.2).

    Takes the network with the statistics it has now; afterwards it computes the same in eval mode.
    """
    graph.eval()
    for node, layer in list(_behind_layers(graph)):
        if takes_up(graph.get_submodule(layer.target)):
            graph.set_submodule(layer.target, taken_up(graph.get_submodule(layer.target), graph.get_submodule(node.target)))
            node.replace_all_uses_with(layer)
            graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    for parameter in graph.parameters():
        parameter.requires_grad_(True)
    return graph


def norms_of(graph: fx.GraphModule) -> dict[str, nn.BatchNorm2d]:
    """The norms behind layers, by the layer's path."""
    return {layer.target: graph.get_submodule(node.target) for node, layer in _behind_layers(graph)}


def _behind_layers(graph: fx.GraphModule):
    """The nodes of norms, each with that of the layer which nothing else reads."""
    for node in graph.graph.nodes:
        if node.op == "call_module" and isinstance(graph.get_submodule(node.target), nn.BatchNorm2d):
            layer = node.args[0]
            if layer.op == "call_module" and len(layer.users) == 1:
                yield node, layer


def put_back(graph: fx.GraphModule, norms: dict[str, nn.BatchNorm2d]) -> bool:
    """Puts a norm behind each of these layers that can take it up again; whether there are any."""
    found = False
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and node.target in norms and takes_up(graph.get_submodule(node.target)):
            _unfold(graph.get_submodule(node.target), norms[node.target])
            path = f"{node.target}_{NAME}"
            graph.add_submodule(path, _like(norms[node.target]))
            with graph.graph.inserting_after(node):
                norm = graph.graph.call_module(path, (node,))
            node.replace_all_uses_with(norm, delete_user_cb=lambda user: user is not norm)
            found = True
    graph.recompile()
    return found


@torch.no_grad()
def _unfold(layer: nn.Module, norm: nn.BatchNorm2d) -> None:
    """Gives the weights the size that they had, all channels together, before the norm was folded into them: the rate at which they learn
    well is that of weights of this size, where a norm stands behind them (van Laarhoven, 2017). One factor for all of them, so that what
    judges weights by their size, such as a mask that follows it, judges them as before."""
    layer = layer[-1] if isinstance(layer, nn.Sequential) else layer
    if hasattr(layer, "absorb"):
        return  # whose weights are held apart from their size
    inner = layer.layer if isinstance(layer, IntegerLayer) else layer
    folded = torch.rsqrt(norm.running_var + norm.eps) * (norm.weight if norm.affine else 1)
    before = inner.weight / by_channel(torch.where(folded == 0, 1, folded), inner.weight)
    factor = float(before.norm() / inner.weight.norm()) if inner.weight.any() else 1.0
    _trained_weight(layer).mul_(factor)
    for mask in _masks(inner):
        mask.scale(factor)
    if inner.bias is not None:
        inner.bias.mul_(factor)


def _masks(inner: nn.Module) -> list[Mask]:
    return list(inner.parametrizations.weight) if parametrize.is_parametrized(inner, "weight") else []


def _trained_weight(layer: nn.Module) -> nn.Parameter:
    """The weights that training changes: under a mask, if there is one."""
    inner = layer.layer if isinstance(layer, IntegerLayer) else layer
    return inner.parametrizations.weight.original if parametrize.is_parametrized(inner, "weight") else inner.weight


def _like(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """A norm that gives the same mean and deviation. Its own statistics are still to be measured."""
    fresh = nn.BatchNorm2d(norm.num_features, norm.eps, affine=norm.affine)
    fresh.load_state_dict(norm.state_dict())
    if norm.affine:
        fresh.weight.data.abs_()  # the sign of a factor is the folded weights' now
    fresh.reset_running_stats()
    return fresh


def takes_up(layer: nn.Module) -> bool:
    """Whether the layer's form is the same when its channels are scaled."""
    if isinstance(layer, nn.Sequential):
        return takes_up(layer[-1])
    if isinstance(layer, IntegerLayer):
        return (layer.steps.homogeneous or hasattr(layer, "absorb")) and takes_up(layer.layer)
    return isinstance(layer, nn.Conv2d) and all(isinstance(mask, Mask) for mask in _masks(layer))


def taken_up(layer: nn.Module, norm: nn.BatchNorm2d) -> nn.Module:
    """A copy of the layer that computes what the layer and the norm behind it do in eval mode."""
    whole = copy.deepcopy(layer)
    inner = whole.layer if isinstance(whole, IntegerLayer) else whole
    weight = _trained_weight(whole)
    factor, shift = torch.rsqrt(norm.running_var + norm.eps) * (norm.weight if norm.affine else 1), norm.bias if norm.affine else 0
    with torch.no_grad():
        if hasattr(whole, "absorb"):
            whole.absorb(factor)
        else:
            # Of what it computes with: from whole steps, so that rounding those of the scaled weights gives the same again, and from masked
            # weights, so that a mask that follows their size does too.
            weight.copy_((whole.realised() if whole is not inner else inner.weight) * by_channel(factor, weight))
        inner.bias = nn.Parameter((bias_of(inner) - norm.running_mean) * factor + shift)
    return whole
