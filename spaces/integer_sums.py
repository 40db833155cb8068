"""Sums and means between integer layers, in integers too (Jacob et al., 2018, appendix A.2).

A residual sum, or the mean over an image, whose operands come from integer layers and whose results only integer layers
read gets a range for each operand before training; freezing then finds a type on every side of it and makes it
`int8_add` or `int8_avg_pool2d`. Which ones these are is the greatest set in which each depends only on layers and on
others of the set.

Where an operand is some pixels of a tensor, or a tensor among zeros, it is that tensor which gets the range: layers that
read it find the same, so that it has one type.
"""

import operator

import torch
from torch import fx, nn

from spaces.affine_range import AffineRange

SUMS = (operator.add, torch.add)
PASSES = (nn.ReLU, nn.ReLU6, nn.MaxPool2d, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d)
PADS = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)


def give_types(graph: fx.GraphModule) -> None:
    """Puts a range in front of every operand of these sums and means, in place."""
    modules = dict(graph.named_modules())
    for node in _between_integers(graph, modules):
        for i, operand in enumerate(node.all_input_nodes):
            path = f"types.{node.name}_{i}"
            graph.add_submodule(path, AffineRange(f"sum {node.name}" if is_sum(node) else f"mean {node.name}"))
            reader, source = node, operand
            while _picks_or_pads(_module(modules, source)) and len(source.users) == 1:
                reader, source = source, source.args[0]
            with graph.graph.inserting_before(reader):
                reader.replace_input_with(source, graph.graph.call_module(path, (source,)))
    graph.recompile()


def is_sum(node: fx.Node) -> bool:
    """Whether a node adds two tensors."""
    return node.target in SUMS and len(node.args) == 2 and all(isinstance(value, fx.Node) for value in node.args)


def is_mean(module: nn.Module | None) -> bool:
    """Whether a module is the mean over an image."""
    return isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1))


def pads_zeros(module: nn.Module | None) -> bool:
    """Whether a module puts a tensor among zeros."""
    return isinstance(module, PADS) and module.value == 0


def _picks_or_pads(module: nn.Module | None) -> bool:
    """Whether a module gives some pixels of an image as they are, or puts it among zeros."""
    return pads_zeros(module) or isinstance(module, nn.MaxPool2d) and module.kernel_size in (1, (1, 1)) and module.padding in (0, (0, 0))


def gives_integers(module: nn.Module | None) -> bool:
    """Whether a layer computes in integers, which it can give as they are."""
    return isinstance(module, AffineRange) and hasattr(module, "deploy")


def _module(modules: dict[str, nn.Module], node: fx.Node) -> nn.Module | None:
    return modules.get(node.target) if node.op == "call_module" else None


def _between_integers(graph: fx.GraphModule, modules: dict[str, nn.Module]) -> list[fx.Node]:
    def module_of(node: fx.Node) -> nn.Module | None:
        return _module(modules, node)

    def passes(node: fx.Node) -> bool:
        return isinstance(module_of(node), PASSES) or pads_zeros(module_of(node)) or node.target is torch.cat

    def comes(node: fx.Node) -> bool:
        if passes(node):
            return all(comes(source) for source in node.all_input_nodes)
        return node in found or gives_integers(module_of(node))

    def goes(node: fx.Node) -> bool:
        return bool(node.users) and all(gives_integers(module_of(user)) or user in found
                                        or passes(user) and goes(user)
                                        for user in node.users)

    found = {node for node in graph.graph.nodes if is_sum(node) or is_mean(module_of(node))}
    while True:
        kept = {node for node in found if goes(node) and all(comes(source) for source in node.all_input_nodes)}
        if kept == found:
            return [node for node in graph.graph.nodes if node in found]
        found = kept
