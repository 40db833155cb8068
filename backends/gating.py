"""Convolutions of gated images (squeeze and excite: Hu et al., 2018): each channel of an image is multiplied by one number
before a 1x1 convolution.

sum over c of (x[c] * gate[c]) * w[c, o] = sum over c of x[c] * (gate[c] * w[c, o]): where there are fewer weights than numbers
in the image it is cheaper to multiply those, once per inference. Both ways are measured.
"""

from dataclasses import replace

from backends.graph import Graph, Joint, Node
from backends.workload import Workload

GATED = "conv2d_gated"


def gated(product: Workload, convolution: Workload) -> Workload:
    """The workload that does both: it gates its weights, and convolves the image as that lies before the product."""
    image, gate = (product.tensors[place][1] for place in _image_and_gate(product))
    replaced = {"x": (("x", image),), "weight": (("weight", convolution["weight"]), ("weight.gate", gate))}
    tensors = [new for entry in convolution.tensors for new in replaced.get(entry[0], (entry,))]
    return replace(convolution, op=GATED, tensors=tuple(tensors))


def ungated(workload: Workload) -> Workload:
    """The inverse: the convolution alone."""
    tensors = tuple(entry for entry in workload.tensors if entry[0] != "weight.gate")
    return replace(workload, op="conv2d", tensors=tensors)


def gated_layers(graph: Graph) -> dict[str, Joint]:
    """The 1x1 convolutions that alone read a gated image, by their node's name."""
    gates, found = _gates(graph), {}
    for node in graph.nodes:
        product = gates.get(node.inputs[0]) if _is_pointwise(node.workload) else None
        if product:
            image, gate = (product.inputs[place] for place in _image_and_gate(product.workload))
            inputs = (image, node.inputs[1], gate, *node.inputs[2:])
            whole = gated(product.workload, node.workload)
            found[node.name] = Joint(whole, (product.workload, node.workload), inputs, product.name)
    return found


def _is_pointwise(workload: Workload | None) -> bool:
    return bool(workload) and workload.op == "conv2d" and workload["groups"] == 1 and workload["weight"].shape[2:] == (1, 1)


def _gates(graph: Graph) -> dict[str, Node]:
    """The nodes that multiply one image by one number a channel, for one reader, by name."""
    readers = [name for node in graph.nodes for name in node.inputs]
    return {node.name: node for node in graph.nodes
            if node.workload and not node.unserved and _image_and_gate(node.workload) and readers.count(node.name) == 1}


def _image_and_gate(workload: Workload) -> tuple[int, int] | None:
    """The places of the two among the operands of a product of one image and one number a channel; None of another op."""
    if workload.op != "mul" or len(workload.tensors) != 2:
        return None
    shapes = [tensor.shape for _, tensor in workload.tensors]
    return next(((image, gate) for image, gate in ((0, 1), (1, 0)) if workload.tensors[image][1].dtype == "float32"
                 and shapes[image] == workload.out.shape != shapes[gate] == (1, *shapes[image][1:2], 1, 1)), None)
