"""The FX graph of a network, in which layers, pools and activations are the leaves."""

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class _LayerTracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return hasattr(module, "wanted") or super().is_leaf_module(module, path)


def trace(network: nn.Module) -> fx.GraphModule:
    """The network as a graph over its own modules, by their paths; weights are shared, not copied."""
    graph = _LayerTracer().trace(network)
    return fx.GraphModule(network, graph)


def fold_norms(graph: fx.GraphModule) -> fx.GraphModule:
    """Every batch norm behind a convolution is folded into it (Jacob et al., 2018, section 3.2).

    Takes the network with the statistics it has now; afterwards it computes the same in eval mode.
    """
    graph.eval()
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and isinstance(modules[node.target], nn.BatchNorm2d):
            layer = node.args[0]
            if layer.op == "call_module" and isinstance(modules[layer.target], nn.Conv2d) and len(layer.users) == 1:
                graph.set_submodule(layer.target, fuse_conv_bn_eval(modules[layer.target], modules[node.target]))
                node.replace_all_uses_with(layer)
                graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    for parameter in graph.parameters():
        parameter.requires_grad_(True)
    return graph


def finite(tensor: torch.Tensor) -> bool:
    """Whether every number of a tensor is finite; integers always are."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
