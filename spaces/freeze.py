"""Freezing: a trained network as a graph of deployed ops, in one pass over the whole network.

Every tensor gets a type. Layers that compute in integers ask for uint8 inputs; the quantise step in
front of them moves up through what commutes with it exactly (max-pool, concatenation, flatten, padding with
zeros, which becomes padding with the zero point), and disappears into the requantisation of an integer layer
where it reaches one; a step back to floats moves down in the same way. Sums and means whose
operands and results are integers become integer ops (`spaces.integer_sums`). What is left is a
quantise at the boundary from floats. Layers that ask for signs get them packed right in front of them:
a byte holds eight channels, so packing commutes with nothing. Activations become the clamp at the end of
each layer's op.
"""

import math

import torch
from torch import fx, nn

from spaces.gene import SpaceError, placed
from spaces.integer_sums import gives_integers, is_mean, is_sum, pads_zeros
from spaces.norms import fold_norms
from spaces.ops import int8_add
from spaces.ops.int8_avg_pool2d import mean_of_image
from spaces.prepared import Affine, Bits, Deployed, Packed, bias_of, geometry, op_for, stored_form
from spaces.trace import finite, trace

CLAMPS = {nn.ReLU: (0.0, math.inf), nn.ReLU6: (0.0, 6.0)}
COMMUTES = (nn.MaxPool2d, nn.Flatten)


def freeze(network: nn.Module) -> fx.GraphModule:
    """The deployed network: [N, C, H, W] float32 to logits, only deployed ops and parameter-free layers.

    Its stored tensors are its parameters, none of which asks for gradients. SpaceError names a layer that cannot be deployed. The prepared
    network is left as it was, in eval mode.
    """
    import spaces.ops

    spaces.ops.register_all()
    plan = trace(network.eval())
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        fold_norms(plan)
    _drop_identities(plan)
    _fuse_clamps(plan)
    _ask_for_types(plan)
    _sink(plan)
    _hoist(plan)
    _sum_integers(plan)
    _requantise(plan)
    return _emit(plan)


def _quantise(x, wanted: Affine | Bits):
    """Marks, in the plan, where a float tensor becomes one of type `wanted`."""


def _dequantise(x, given: Affine):
    """Marks, in the plan, where a tensor of type `given` becomes float."""


def _module(plan: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return plan.get_submodule(node.target) if node.op == "call_module" else None


def _is_layer(module: nn.Module | None) -> bool:
    return hasattr(module, "deploy") or isinstance(module, nn.Conv2d | nn.Linear)


def _skip(plan: fx.GraphModule, node: fx.Node) -> None:
    node.replace_all_uses_with(node.args[0])
    plan.graph.erase_node(node)


def _drop_identities(plan: fx.GraphModule) -> None:
    for node in list(plan.graph.nodes):
        if isinstance(_module(plan, node), nn.Identity | nn.Dropout | nn.Dropout2d):
            _skip(plan, node)


def _fuse_clamps(plan: fx.GraphModule) -> None:
    for node in list(plan.graph.nodes):
        clamp = CLAMPS.get(type(_module(plan, node)))
        if clamp and _is_layer(_module(plan, node.args[0])) and len(node.args[0].users) == 1:
            node.args[0].meta["clamp"] = clamp
            _skip(plan, node)


def _ask_for_types(plan: fx.GraphModule) -> None:
    for node in list(plan.graph.nodes):
        module = _module(plan, node)
        if hasattr(module, "wanted"):
            with placed(node.target):
                quantised = _quantised(plan, node.args[0], module.wanted())
            if hasattr(module, "deploy"):
                node.replace_input_with(node.args[0], quantised)
            else:
                _replace(plan, node, _dequantise, (quantised, module.wanted()))


def _quantised(plan: fx.GraphModule, source: fx.Node, wanted: Affine | Bits) -> fx.Node:
    """The node that gives `source` as `wanted`, one for all who want the same."""
    for user in source.users:
        if user.target is _quantise and user.args[1] == wanted:
            return user
    with plan.graph.inserting_after(source):
        return plan.graph.call_function(_quantise, (source, wanted))


def _sink(plan: fx.GraphModule) -> None:
    """Moves each step back to floats behind what commutes with it."""
    for node in list(plan.graph.nodes):
        before = node.all_input_nodes[0] if len(node.all_input_nodes) == 1 else node
        if before.target is not _dequantise or not _commutes(plan, node, before.args[1]):
            continue
        node.replace_input_with(before, before.args[0])
        integers = _on_integers(plan, node, before.args[1])
        with plan.graph.inserting_after(integers):
            after = plan.graph.call_function(_dequantise, (integers, before.args[1]))
        integers.replace_all_uses_with(after, lambda user: user is not after)
    plan.graph.eliminate_dead_code()


def _hoist(plan: fx.GraphModule) -> None:
    """Moves each quantise step to integers in front of what commutes with it, until none can move."""
    waiting = [node for node in plan.graph.nodes if _to_integers(node)]
    while waiting:
        node = waiting.pop()
        source, wanted = node.args
        if not _commutes(plan, source, wanted) or len(source.users) > 1:
            continue
        _skip(plan, node)
        source = _on_integers(plan, source, wanted)
        for tensor in list(source.all_input_nodes):
            moved = _quantised(plan, tensor, wanted)
            source.replace_input_with(tensor, moved)
            waiting += [] if moved in waiting else [moved]


def _to_integers(node: fx.Node) -> bool:
    return node.target is _quantise and isinstance(node.args[1], Affine)


def _commutes(plan: fx.GraphModule, node: fx.Node, given: Affine) -> bool:
    pads = pads_zeros(_module(plan, node)) and not isinstance(given.scale, tuple)
    return node.target is torch.cat or isinstance(_module(plan, node), COMMUTES) or pads


def _on_integers(plan: fx.GraphModule, node: fx.Node, given: Affine) -> fx.Node:
    """The node, which commutes, as it is on integers: where it pads, with their zero. The network's own module stays as it is."""
    if not pads_zeros(_module(plan, node)):
        return node
    padding = node.args[0], _module(plan, node).padding, "constant", given.zero_point
    return _replace(plan, node, nn.functional.pad, padding)


def _sum_integers(plan: fx.GraphModule) -> None:
    """A sum or mean of integers, after which only integers of one type are read, becomes an integer op of that type."""
    for node in list(plan.graph.nodes):
        if not is_sum(node) and not is_mean(_module(plan, node)):
            continue
        last, bounds = node, (-math.inf, math.inf)
        user, *others = node.users
        if not others and type(_module(plan, user)) in CLAMPS:
            last, bounds = user, CLAMPS[type(_module(plan, user))]
        readers = list(last.users)
        if len(readers) == 1 and _to_integers(readers[0]) and all(x.target is _dequantise for x in node.all_input_nodes):
            _replace(plan, readers[0], *_integer(node, readers[0].args[1], bounds))
    plan.graph.eliminate_dead_code()


def _integer(node: fx.Node, out: Affine, bounds: tuple[float, float]) -> tuple:
    """The function that computes a sum or mean of dequantised tensors in integers, and its arguments."""
    (tensors, types) = zip(*(x.args for x in node.args))
    if not is_sum(node):
        return mean_of_image, (*tensors, types[0].scale, types[0].zero_point, out.scale, out.zero_point)
    return torch.ops.netwright.int8_add.default, (*tensors, *int8_add.arguments(*types, out, *bounds).values())


def _replace(plan: fx.GraphModule, node: fx.Node, function, arguments: tuple) -> fx.Node:
    with plan.graph.inserting_before(node):
        new = plan.graph.call_function(function, arguments)
    node.replace_all_uses_with(new)
    plan.graph.erase_node(node)
    return new


def _requantise(plan: fx.GraphModule) -> None:
    """A quantise step that alone reads an integer layer becomes that layer's own last step."""
    for node in list(plan.graph.nodes):
        if _to_integers(node) and gives_integers(_module(plan, node.args[0])) and len(node.args[0].users) == 1:
            node.args[0].meta["given"] = node.args[1]
            _skip(plan, node)


def _emit(plan: fx.GraphModule) -> fx.GraphModule:
    root, graph = nn.Module(), fx.Graph()
    emitted: dict[fx.Node, fx.Node] = {}
    for node in plan.graph.nodes:
        emitted[node] = _emit_node(plan, node, root, graph, emitted)
    graph.lint()
    return fx.GraphModule(root, graph).eval()


def _emit_node(plan, node: fx.Node, root: nn.Module, graph: fx.Graph, emitted: dict[fx.Node, fx.Node]) -> fx.Node:
    module = _module(plan, node)
    if node.target is _dequantise:
        arguments = (node.args[1].scale, node.args[1].zero_point)
        return graph.call_function(torch.ops.netwright.dequantize.default, (emitted[node.args[0]], *arguments))
    if node.target is _quantise:
        op, arguments = node.args[1].conversion()
        return graph.call_function(getattr(torch.ops.netwright, op).default, (emitted[node.args[0]], *arguments))
    if _is_layer(module):
        return _emit_layer(node, module, root, graph, emitted[node.args[0]])
    if module is not None:
        if any(True for _ in module.parameters()):
            raise SpaceError(f"{node.target}: a {type(module).__name__} has no deployed form")
        _put(root, node.target, module)
    return graph.node_copy(node, lambda argument: emitted[argument])


def _emit_layer(node: fx.Node, module: nn.Module, root: nn.Module, graph: fx.Graph, x: fx.Node) -> fx.Node:
    clamp = node.meta.get("clamp", (-math.inf, math.inf))
    with placed(node.target):
        deployed = (module.deploy(node.meta.get("given"), *clamp) if hasattr(module, "deploy")
                    else _deploy_dense(module, *clamp))
        values: dict[str, object] = {"x": x, **deployed.arguments}
        for name, tensor in deployed.tensors.items():
            packs = name == "weight" and isinstance(tensor, torch.Tensor)
            form = stored_form(module, _finite(name, tensor)) if packs else tensor
            values[name] = _stored(root, graph, f"{node.target}.{name}", form)
    op = getattr(torch.ops.netwright, deployed.op).default
    return graph.call_function(op, tuple(values[argument.name] for argument in op._schema.arguments))


def _deploy_dense(layer: nn.Module, low: float, high: float) -> Deployed:
    tensors = {"weight": layer.weight.detach(), "bias": bias_of(layer)}
    return Deployed(op_for(layer), tensors, {**geometry(layer), "low": low, "high": high})


def _stored(root: nn.Module, graph: fx.Graph, path: str, value: object) -> object:
    """The node of a stored tensor, or of the op that unpacks a packed one; numbers are themselves."""
    if isinstance(value, torch.Tensor):
        return _parameter(root, graph, path, _finite(path.rpartition(".")[2], value))
    if not isinstance(value, Packed):
        return value
    op = getattr(torch.ops.netwright, value.op).default
    parts = {name: _stored(root, graph, f"{path}_{name}", part) for name, part in value.arguments.items()}
    return graph.call_function(op, tuple(parts[argument.name] for argument in op._schema.arguments))


def _finite(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor; SpaceError if some number of it is not finite."""
    if not finite(tensor):
        raise SpaceError(f"{name} is not finite")
    return tensor


def _parameter(root: nn.Module, graph: fx.Graph, path: str, tensor: torch.Tensor) -> fx.Node:
    owner, _, name = path.rpartition(".")
    _put(root, owner, None)
    # A parameter, not a buffer: compilers take parameters as arguments and bake buffers into the code.
    root.get_submodule(owner).register_parameter(name, nn.Parameter(tensor.clone().contiguous(), requires_grad=False))
    return graph.get_attr(path)


def _put(root: nn.Module, path: str, module: nn.Module | None) -> None:
    """Makes `path` exist below root, ending in `module` if one is given."""
    for name in path.split("."):
        if name not in root._modules:
            root.add_module(name, nn.Module())
        parent, root = root, root._modules[name]
    if module is not None:
        parent._modules[name] = module
