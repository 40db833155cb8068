"""Every compiled network is compared with its reference before anything is believed of it.

Each kernel runs on the reference's own inputs: integers must agree bit for bit, floats within 1e-4 of the
largest value, floats rounded to integers within one step. The whole network must agree exactly if it is all integer, within
1e-4 if all float; otherwise, since rounding a float can flip an integer, in the class on 99% of real inputs.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from backends.fusion import Group, groups_of, inputs_of
from backends.graph import Graph, read
from backends.joining import with_joined
from backends.library import Library
from backends.lowering import served_on
from backends.target import Target
from backends.tune import TOLERANCE, difference, in_memory
from backends.unpacking import UNPACK
from backends.workload import Workload

AGREEMENT = 0.99


@dataclass(frozen=True)
class Verification:
    """`mismatch` is empty, or says which op or output differs and by how much. `kind`: "integer", "float" or
    "mixed"; `differing`: inputs with another class than the reference's, of `inputs`."""

    mismatch: str
    kind: str
    ops: int
    inputs: int
    differing: int
    largest_error: float


def verify(program, library: Library, images: np.ndarray, target: Target, joined: Collection[str]) -> Verification:
    """Compares the library with the exported program's own arithmetic on images [N, C, H, W], one by one. `joined`: the
    layers that do the op before them as well, as its compile report says."""
    separate = read(program, served_on(target))
    graph, kind = with_joined(separate, joined), _kind(separate)
    checked, wrong = _check_ops(program, graph, library, images[:1])
    expected = np.concatenate([_reference(program, image[None]) for image in images])
    out = np.concatenate([library.run(image[None]) for image in images])
    error = difference(out, expected)
    differing = int((out.argmax(1) != expected.argmax(1)).sum())
    wrong = wrong or _whole(kind, error, differing, len(images))
    return Verification(wrong, kind, checked, len(images), differing, error)


def _whole(kind: str, error: float, differing: int, inputs: int) -> str:
    if kind == "integer" and error > 0:
        return f"the all-integer network differs from its reference by {error:.2g}"
    if kind == "float" and not error <= TOLERANCE:
        return f"the float network differs from its reference by {error:.2g}, more than {TOLERANCE}"
    if kind == "mixed" and differing > (1 - AGREEMENT) * inputs:
        return f"the network's class differs from its reference's on {differing} of {inputs} inputs"
    return ""


def _check_ops(program, graph: Graph, library: Library, image: np.ndarray) -> tuple[int, str]:
    """The number of kernels compared, and the first that differs."""
    tensors = {**graph.inputs, **graph.stored, **{node.name: node.out for node in graph.nodes}}
    values = _values(program, graph, image)
    checked = 0
    for group in groups_of(graph):
        if group.parts:
            inputs = [in_memory(values[name], tensors[name]) for name in inputs_of(group)]
            expected = in_memory(values[group.name], group.out)
            out = library.run_op(group.name, inputs)
            error = difference(out, expected)
            if out.dtype != expected.dtype or error > _allowed(group, expected):
                return checked, f"op {group.name} differs from its reference by {error:.2g} on the reference's own inputs"
            checked += 1
    return checked, ""


def _allowed(group: Group, expected: np.ndarray) -> float:
    """The difference that is no mistake: none for integers; a float that is rounded to an integer in the same kernel
    may fall on the other side of one half."""
    if expected.dtype.kind == "f":
        return TOLERANCE
    rounded = any(step.op == "quantize" for part in group.parts for step in part.workload.then)
    return 1.0 / max(int(expected.max()), 1) if rounded else 0.0


def _values(program, graph: Graph, image: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor of the graph as the reference computes it."""
    import torch
    from torch import fx

    class Recorder(fx.Interpreter):
        def run_node(self, node):
            out = super().run_node(node)
            if isinstance(out, torch.Tensor):
                values[node.name] = out.numpy()
            return out

    values: dict[str, np.ndarray] = {}
    with torch.no_grad():
        Recorder(program.graph_module, garbage_collect_values=False).run(*_lifted(program), torch.from_numpy(image))
    for node in graph.nodes:  # copies that only change the layout are not in the program
        values.setdefault(node.name, values[node.inputs[0]])
    return values


def _lifted(program) -> list:
    """The stored tensors in the order of the graph's placeholders."""
    return [program.state_dict[name] for name in program.graph_signature.inputs_to_parameters.values()]


def _reference(program, image: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        out, = program.graph_module(*_lifted(program), torch.from_numpy(image))
    return out.numpy()


def _kind(graph: Graph) -> str:
    """Which numbers the ops compute in; those that only unpack weights aside, the quantise step at the entry and the scale at
    the exit."""
    integer = [_in_integers(node.workload) for node in graph.nodes if node.workload and not node.workload.op.startswith(UNPACK)]
    return "integer" if all(integer) else "mixed" if any(integer) else "float"


def _in_integers(workload: Workload) -> bool:
    """Whether an op computes in integers; one that adds a float bias rounds at its end, whatever it counts before."""
    tensors = dict(workload.tensors)
    exact = "bias" not in tensors or tensors["bias"].dtype != "float32"
    return exact and any(tensor.dtype in ("uint8", "int8") for tensor in (*tensors.values(), workload.out))
