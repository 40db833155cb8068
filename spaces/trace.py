"""The FX graph of a network, in which layers, pools and activations are the leaves."""

import torch
from torch import fx, nn


class _LayerTracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return hasattr(module, "wanted") or super().is_leaf_module(module, path)


def trace(network: nn.Module) -> fx.GraphModule:
    """The network as a graph over its own modules, by their paths; weights are shared, not copied."""
    graph = _LayerTracer().trace(network)
    return fx.GraphModule(network, graph)


def finite(tensor: torch.Tensor) -> bool:
    """Whether every number of a tensor is finite; integers always are."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
