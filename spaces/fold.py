"""Batch norms of an exported network folded into the convolutions and dense layers in front of them.

Works on the aten graph, so on any torch module (Jacob et al., 2018, section 3.2): with running mean m and variance v,
w' = w * g / sqrt(v + e) per output channel and b' = (b - m) * g / sqrt(v + e) + h.
"""

import torch
from torch import fx, nn

LAYERS = {torch.ops.aten.conv2d.default, torch.ops.aten.linear.default}


def exported(network: nn.Module, image: torch.Tensor):
    """The network's `torch.export.ExportedProgram` in eval mode for one input, batch norms folded."""
    return folded(torch.export.export(network.eval(), (image,)), image)


def folded(program, image: torch.Tensor):
    """The same program without the batch norms that follow a layer."""
    graph = program.module()
    norms = [node for node in graph.graph.nodes if node.target is torch.ops.aten.batch_norm.default]
    if not norms:
        return program
    for node in norms:
        layer = node.args[0]
        if layer.target in LAYERS and len(layer.users) == 1 and not node.args[5]:
            _fold(graph, layer, node)
    graph.recompile()
    with torch.no_grad():
        return torch.export.export(graph, (image,))


def _fold(graph: fx.GraphModule, layer: fx.Node, norm: fx.Node) -> None:
    weight, bias = _tensor(graph, layer.args[1]), _tensor(graph, layer.args[2] if len(layer.args) > 2 else None)
    scale, shift, mean, variance = (_tensor(graph, argument) for argument in norm.args[1:5])
    factor = torch.rsqrt(variance + norm.args[7]) * (1 if scale is None else scale)
    bias = ((0 if bias is None else bias) - mean) * factor + (0 if shift is None else shift)
    values = (weight * factor.view(-1, *[1] * (weight.dim() - 1)), bias)
    with graph.graph.inserting_before(layer):
        nodes = [_parameter(graph, f"{layer.name}_folded_{name}", value) for name, value in zip(("weight", "bias"), values)]
    layer.args = (layer.args[0], *nodes, *layer.args[3:])
    norm.replace_all_uses_with(layer)
    graph.graph.erase_node(norm)


def _tensor(graph: fx.GraphModule, node: fx.Node | None) -> torch.Tensor | None:
    """The stored tensor that a node reads."""
    if node is None:
        return None
    owner, _, name = node.target.rpartition(".")
    return getattr(graph.get_submodule(owner), name).detach()


def _parameter(graph: fx.GraphModule, name: str, value: torch.Tensor) -> fx.Node:
    graph.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return graph.graph.get_attr(name)
