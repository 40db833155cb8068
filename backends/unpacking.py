"""Layers whose weights are stored packed (sparse, few bits, a codebook, ...).

Such a layer is two nodes of the graph: an op `unpack_<format>` of stored tensors, and a convolution or dense layer that
reads the weights it gives. The weights can be unpacked once, when the network is loaded, and the layer computed by
its plain kernels; or, where a folder `kernels/<op>_unpack_<format>` serves it, the layer is computed straight from the
packed weights. Which is faster depends on shape, format and machine, so both are measured.
"""

from dataclasses import replace

from backends.graph import Graph, Joint, Node
from backends.workload import Tensor, Workload

UNPACK = "unpack_"


def compound(workload: Workload, unpack: Workload) -> Workload:
    """The workload that computes `workload` from the packed weights that `unpack` takes."""
    packed = [(f"weight.{name}", tensor) for name, tensor in unpack.tensors]
    tensors = [new for entry in workload.tensors for new in (packed if entry[0] == "weight" else [entry])]
    return replace(workload, op=f"{workload.op}_{unpack.op}", tensors=tuple(tensors), unpack=unpack)


def plain(workload: Workload) -> Workload:
    """The inverse: the same layer with unpacked weights."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in workload.tensors:
        tensors |= {"weight": workload.unpack.out} if name.startswith("weight.") else {name: tensor}
    op = workload.op.removesuffix(f"_{workload.unpack.op}")
    return replace(workload, op=op, tensors=tuple(tensors.items()), unpack=None)


def packed_layers(graph: Graph) -> dict[str, Joint]:
    """The layers that alone read weights which an op unpacks, by their node's name."""
    unpackers, found = _unpackers(graph), {}
    for node in graph.nodes:
        unpacker = unpackers.get(_weight_of(node))
        if unpacker:
            inputs = [n for name in node.inputs for n in (unpacker.inputs if name == unpacker.name else [name])]
            whole = compound(node.workload, unpacker.workload)
            found[node.name] = Joint(whole, (node.workload,), tuple(inputs), unpacker.name)
    return found


def _unpackers(graph: Graph) -> dict[str, Node]:
    """The nodes that unpack weights for one reader, by name."""
    readers = [name for node in graph.nodes for name in node.inputs]
    return {node.name: node for node in graph.nodes
            if node.workload and node.workload.op.startswith(UNPACK) and readers.count(node.name) == 1}


def _weight_of(node: Node) -> str:
    """The name of the tensor that a node reads as its weights; empty if it has none."""
    names = [name for name, _ in node.workload.tensors] if node.workload else []
    return node.inputs[names.index("weight")] if "weight" in names else ""
