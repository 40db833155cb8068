"""An exported program as a list of op nodes with their workloads and tensor layouts.

Images inside the network lie channels last; the network's inputs and outputs, and what a reshape takes
and gives, lie plain. Where the two meet, a copy node is put in, unless the image has one pixel.
"""

from dataclasses import dataclass, replace

from backends.workload import CHANNELS_LAST, PLAIN, Tensor, Workload

# Ops that only rename memory.
RENAMES = {"flatten", "view", "reshape", "squeeze", "unsqueeze", "_unsafe_view", "alias", "detach", "dropout", "clone"}


@dataclass(frozen=True)
class Node:
    """An op of the graph: its results are called `name`; `inputs` are names of nodes, inputs or stored tensors.
    `workload` is None for a reshape, which gives `out`."""

    name: str
    inputs: tuple[str, ...]
    out: Tensor
    workload: Workload | None


@dataclass(frozen=True)
class Graph:
    """Nodes in order of computation; `inputs` and `stored` are tensors by name; `output` the result's name."""

    inputs: dict[str, Tensor]
    stored: dict[str, Tensor]
    nodes: tuple[Node, ...]
    output: str


def read(program) -> Graph:
    """The graph of a `torch.export.ExportedProgram` with one result."""
    parameters = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers
    reader = _Reader({}, {}, [], {})
    for node in program.graph.nodes:
        if node.op == "placeholder":
            place = reader.stored if node.name in parameters else reader.inputs
            place[node.name] = reader.tensors[node.name] = tensor_of(node)
        elif node.op == "call_function":
            reader.add(node)
        elif node.op == "output":
            output, = node.all_input_nodes
    return Graph(reader.inputs, reader.stored, tuple(reader.nodes), reader.plain(output.name))


def tensor_of(node) -> Tensor:
    """Shape and type of what an FX node gives, plain."""
    value = node.meta["val"]
    return Tensor(tuple(int(side) for side in value.shape), str(value.dtype).removeprefix("torch."))


def op_of(node) -> str:
    """The op's name: `conv2d` of `netwright.conv2d.default`."""
    return node.target.__name__.split(".")[0].rstrip("_")


@dataclass
class _Reader:
    inputs: dict[str, Tensor]
    stored: dict[str, Tensor]
    nodes: list[Node]
    tensors: dict[str, Tensor]

    def add(self, node) -> None:
        """Reads one call of an op."""
        if op_of(node) in RENAMES:
            source, out = self.plain(node.all_input_nodes[0].name), tensor_of(node)
            self._append(Node(node.name, (source,), out, None))
            return
        named = _named_arguments(node)
        tensors, arguments, inputs = [], [], []
        for name, value in named.items():
            listed = value if isinstance(value, list | tuple) else [value]
            if listed and all(hasattr(item, "meta") for item in listed):
                tensors += [(name if item is value else f"{name}{i}", self.tensors[item.name]) for i, item in enumerate(listed)]
                inputs += [item.name for item in listed]
            elif value is not None:
                arguments.append((name, tuple(value) if isinstance(value, list) else value))
        workload = _normal(Workload(op_of(node), tuple(tensors), tuple(arguments), inside(tensor_of(node))))
        self._append(Node(node.name, tuple(inputs), workload.out, workload))

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
    """aten.conv2d and aten.linear as the deployed ops of the same name."""
    if workload.op not in _TORCH_NAMES or "low" in dict(workload.arguments):
        return workload
    tensors = tuple((_TORCH_NAMES[workload.op].get(name, name), tensor) for name, tensor in workload.tensors)
    arguments = {**_TORCH_DEFAULTS[workload.op], **dict(workload.arguments), "low": float("-inf"), "high": float("inf")}
    return replace(workload, tensors=tensors, arguments=tuple(arguments.items()))
