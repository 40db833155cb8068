"""Sums and means between integer layers, in integers too (Jacob et al., 2018, appendix A.2).

A residual sum, or the mean over an image, whose operands come from integer layers and whose results only integer layers
read gets a range for each operand before training; freezing then finds a type on every side of it and makes it
`int8_add` or `int8_avg_pool2d`. Which ones these are is the greatest set in which each depends only on layers and on
others of the set.
"""

import operator

import torch
from torch import fx, nn

from spaces.affine_range import AffineRange

SUMS = (operator.add, torch.add)
PASSES = (nn.ReLU, nn.ReLU6, nn.MaxPool2d, nn.Flatten, nn.Identity, nn.Dropout)


def give_types(graph: fx.GraphModule) -> None:
    """Puts a range in front of every operand of these sums and means, in place."""
    modules = dict(graph.named_modules())
    for node in _between_integers(graph, modules):
        operands = list(node.args)
        for i, operand in enumerate(node.all_input_nodes):
            path = f"types.{node.name}_{i}"
            graph.add_submodule(path, AffineRange(f"sum {node.name}" if is_sum(node) else f"mean {node.name}"))
            with graph.graph.inserting_before(node):
                typed = graph.graph.call_module(path, (operand,))
            operands = [typed if value is operand else value for value in operands]
        node.args = tuple(operands)
    graph.recompile()


def is_sum(node: fx.Node) -> bool:
    """Whether a node adds two tensors."""
    return node.target in SUMS and len(node.args) == 2 and all(isinstance(value, fx.Node) for value in node.args)


def is_mean(module: nn.Module | None) -> bool:
    """Whether a module is the mean over an image."""
    return isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1))


def gives_integers(module: nn.Module | None) -> bool:
    """Whether a layer computes in integers, which it can give as they are."""
    return isinstance(module, AffineRange) and hasattr(module, "deploy")


def _between_integers(graph: fx.GraphModule, modules: dict[str, nn.Module]) -> list[fx.Node]:
    def module_of(node: fx.Node) -> nn.Module | None:
        return modules.get(node.target) if node.op == "call_module" else None

    def comes(node: fx.Node) -> bool:
        if isinstance(module_of(node), PASSES) or node.target is torch.cat:
            return all(comes(source) for source in node.all_input_nodes)
        return node in found or gives_integers(module_of(node))

    def goes(node: fx.Node) -> bool:
        return bool(node.users) and all(gives_integers(module_of(user)) or user in found
                                        or (isinstance(module_of(user), PASSES) or user.target is torch.cat) and goes(user)
                                        for user in node.users)

    found = {node for node in graph.graph.nodes if is_sum(node) or is_mean(module_of(node))}
    while True:
        kept = {node for node in found if goes(node) and all(comes(source) for source in node.all_input_nodes)}
        if kept == found:
            return [node for node in graph.graph.nodes if node in found]
        found = kept
