"""Reading a deployed network's exported program: its op nodes, their shapes and arguments."""

from collections.abc import Iterator


def op_nodes(program) -> Iterator[object]:
    """The nodes of a `torch.export.ExportedProgram` that compute something, in order."""
    return (node for node in program.graph.nodes if node.op == "call_function")


def argument(node, name: str):
    """The node's argument of that name in its op's schema; None where the op has no such argument."""
    names = [declared.name for declared in node.target._schema.arguments]
    if name not in names:
        return None
    at = names.index(name)
    return node.args[at] if at < len(node.args) else node.kwargs.get(name)


def shape(node) -> tuple[int, ...]:
    """The shape of the tensor that a node gives."""
    return tuple(node.meta["val"].shape)


def weight_shape(node) -> tuple[int, ...]:
    """The shape of the weights that an op computes with, packed signs counted one by one; empty where it has none."""
    weight, channels = argument(node, "weight"), argument(node, "channels")
    if weight is None or channels is None:
        return () if weight is None else shape(weight)
    return (shape(weight)[0], channels // (argument(node, "groups") or 1), *shape(weight)[2:])


def bytes_of(node) -> int:
    """The bytes of the tensor that a node gives."""
    value = node.meta["val"]
    return value.numel() * value.element_size()


def weight_nodes(program) -> set:
    """The nodes that hold stored tensors or what is unpacked from them when they are loaded."""
    constant = {n for n in program.graph.nodes
                if n.op == "placeholder" and n.name in program.graph_signature.inputs_to_parameters}
    for node in op_nodes(program):
        if node.all_input_nodes and constant.issuperset(node.all_input_nodes):
            constant.add(node)
    return constant
