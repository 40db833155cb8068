"""An exported program as a list of op nodes with their workloads and tensor layouts.

Images inside the network lie channels last; the network's inputs and outputs, weights, and what a reshape
takes and gives lie plain. Where the two meet, a copy node is put in, unless the image has one pixel.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from backends.workload import CHANNELS_LAST, PLAIN, Tensor, Workload

# Ops that give the same memory another shape, and ops that give what they take.
RESHAPES = {"flatten", "view", "reshape", "squeeze", "unsqueeze", "_unsafe_view"}
IDENTITIES = {"alias", "detach", "dropout", "clone", "contiguous", "feature_dropout"}


@dataclass(frozen=True)
class Node:
    """An op of the graph: its results are called `name`; `inputs` are names of nodes, inputs or stored tensors.
    `workload` is None for a reshape, which gives `out`. `unserved` is the program's own node where no kernel file
    serves the workload."""

    name: str
    inputs: tuple[str, ...]
    out: Tensor
    workload: Workload | None
    unserved: Any = None


@dataclass(frozen=True)
class Graph:
    """Nodes in order of computation; `inputs` and `stored` are tensors by name; `output` the result's name."""

    inputs: dict[str, Tensor]
    stored: dict[str, Tensor]
    nodes: tuple[Node, ...]
    output: str


@dataclass(frozen=True)
class Joint:
    """How the kernel of a layer can do the op before it as well: `workload` on the tensors `inputs` does at each inference
    what `parts` do, and the node `gone` is not needed any more."""

    workload: Workload
    parts: tuple[Workload, ...]
    inputs: tuple[str, ...]
    gone: str


def read(program, serves: Callable[[Workload], bool]) -> Graph:
    """The graph of a `torch.export.ExportedProgram` with one result; `serves` tells whether a workload has a kernel."""
    parameters = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers
    reader = _Reader(serves, {}, {}, [], {}, {}, set())
    for node in program.graph.nodes:
        if node.op == "placeholder":
            place = reader.stored if node.name in parameters else reader.inputs
            place[node.name] = reader.tensors[node.name] = tensor_of(node)
            reader.constant |= reader.stored.keys()
        elif node.op == "call_function":
            reader.add(node)
        elif node.op == "output":
            output, = node.all_input_nodes
    result = reader.plain(reader.same.get(output.name, output.name))
    return Graph(reader.inputs, reader.stored, tuple(reader.nodes), result)


def tensor_of(node) -> Tensor:
    """Shape and type of what an FX node gives, plain."""
    value = node.meta["val"]
    return Tensor(tuple(int(side) for side in value.shape), str(value.dtype).removeprefix("torch."))


def op_of(node) -> str:
    """The op's name: `conv2d` of `netwright.conv2d.default`."""
    return node.target.__name__.split(".")[0].rstrip("_")


@dataclass
class _Reader:
    serves: Callable[[Workload], bool]
    inputs: dict[str, Tensor]
    stored: dict[str, Tensor]
    nodes: list[Node]
    tensors: dict[str, Tensor]
    same: dict[str, str]
    constant: set[str]  # stored tensors and what is computed from them alone

    def add(self, node) -> None:
        """Reads one call of an op."""
        if op_of(node) in IDENTITIES:
            self.same[node.name] = self._name(node.all_input_nodes[0])
            return
        if op_of(node) in RESHAPES:
            source, out = self.plain(self._name(node.all_input_nodes[0])), tensor_of(node)
            self._append(Node(node.name, (source,), out, None))
            return
        made = self._node(node, self._name)
        if made.workload.op != "cat" and not self.serves(made.workload):
            made = self._node(node, lambda source: self.plain(self._name(source)))
            out = tensor_of(node)
            made = Node(node.name, made.inputs, out, replace(made.workload, out=out), node)
        self._append(made)

    def _node(self, node, name_of: Callable[[Any], str]) -> Node:
        """The op's workload on its tensors, by the names that `name_of` gives."""
        tensors, arguments, inputs = [], [], []
        for name, value in _named_arguments(node).items():
            listed = list(value) if isinstance(value, list | tuple) else [value]
            if listed and all(hasattr(item, "meta") for item in listed):
                names = [name_of(item) for item in listed]
                tensors += [(name if listed[0] is value else f"{name}{i}", self.tensors[n]) for i, n in enumerate(names)]
                inputs += names
            elif value is not None:
                arguments.append((name, tuple(value) if isinstance(value, list) else value))
        out = tensor_of(node) if self.constant >= set(inputs) else inside(tensor_of(node))
        workload = _normal(Workload(op_of(node), tuple(tensors), tuple(arguments), out))
        return Node(node.name, tuple(inputs), out, workload)

    def _name(self, node) -> str:
        """The tensor that a node of the program is."""
        return self.same.get(node.name, node.name)

    def plain(self, name: str) -> str:
        """The name of the tensor as it is in plain layout; a copy is put in where memory must change."""
        tensor = self.tensors[name]
        if tensor.layout == PLAIN or tensor.memory[1:3] == (1, 1):
            return name
        out = replace(tensor, layout=PLAIN)
        copy = Workload("clone", (("self", tensor),), (), out)
        self._append(Node(f"{name}_plain", (name,), out, copy))
        return f"{name}_plain"

    def _append(self, node: Node) -> None:
        self.nodes.append(node)
        self.tensors[node.name] = node.out
        if self.constant >= set(node.inputs):
            self.constant.add(node.name)


def inside(tensor: Tensor) -> Tensor:
    """The tensor as it lies inside a network: images channels last."""
    return replace(tensor, layout=CHANNELS_LAST) if len(tensor.shape) == 4 else tensor


def _named_arguments(node) -> dict[str, object]:
    names = [argument.name for argument in node.target._schema.arguments]
    return {**dict(zip(names, node.args)), **node.kwargs}


# torch's own convolution and dense layer are the deployed ones without an activation.
_TORCH_NAMES = {"conv2d": {"input": "x"}, "linear": {"input": "x"}}
_TORCH_DEFAULTS = {"conv2d": {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}, "linear": {}}


def _normal(workload: Workload) -> Workload:
    """aten.conv2d and aten.linear as the deployed ops of the same name; aten.pad, where it pads with one value, as aten.constant_pad_nd."""
    if workload.op == "pad" and dict(workload.arguments).get("mode", "constant") == "constant":
        return replace(workload, op="constant_pad_nd", arguments=tuple(pair for pair in workload.arguments if pair[0] != "mode"))
    if workload.op not in _TORCH_NAMES or "low" in dict(workload.arguments):
        return workload
    tensors = tuple((_TORCH_NAMES[workload.op].get(name, name), tensor) for name, tensor in workload.tensors)
    arguments = {**_TORCH_DEFAULTS[workload.op], **dict(workload.arguments), "low": float("-inf"), "high": float("inf")}
    return replace(workload, tensors=tensors, arguments=tuple(arguments.items()))
