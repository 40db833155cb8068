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
    (_, image), (_, gate) = product.tensors
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
        product = gates.get(node.inputs[0])
        if product and _is_pointwise(node.workload):
            image, gate = product.inputs
            inputs = (image, node.inputs[1], gate, *node.inputs[2:])
            whole = gated(product.workload, node.workload)
            found[node.name] = Joint(whole, (product.workload, node.workload), inputs, product.name)
    return found


def _is_pointwise(workload: Workload | None) -> bool:
    return bool(workload) and workload.op == "conv2d" and workload["groups"] == 1 and workload["weight"].shape[2:] == (1, 1)


def _gates(graph: Graph) -> dict[str, Node]:
    """The nodes that multiply one image by one number a channel, for one reader, by name."""
    readers = [name for node in graph.nodes for name in node.inputs]
    return {node.name: node for node in graph.nodes if node.workload and node.workload.op == "mul" and not node.unserved
            and readers.count(node.name) == 1 and _gates_one_image(node.workload)}


def _gates_one_image(workload: Workload) -> bool:
    (_, image), (_, gate) = workload.tensors
    return image.shape == workload.out.shape != gate.shape == (1, image.shape[1], 1, 1) and image.dtype == "float32"
