"""Every compiled network is compared with its reference before anything is believed of it.

Each op runs on the reference's own inputs: integers must agree bit for bit, floats within 1e-4 of the
largest value. The whole network must agree exactly if it is all integer, within 1e-4 if all float;
otherwise, since rounding a float can flip an integer, in the class on 99% of real inputs.
"""

from dataclasses import dataclass

import numpy as np

from backends.library import Library

TOLERANCE = 1e-4
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


def verify(program, library: Library, images: np.ndarray) -> Verification:
    """Compares the library with the exported program's own arithmetic on images [N, C, H, W], one by one."""
    kind = _kind(program)
    checked, wrong = _check_ops(program, library, images[:1])
    expected = np.concatenate([_reference(program, image[None]) for image in images])
    out = np.concatenate([library.run(image[None]) for image in images])
    error = _relative_error(out, expected)
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


def _check_ops(program, library: Library, image: np.ndarray) -> tuple[int, str]:
    """The number of ops compared, and the first that differs."""
    checked = 0
    for node, inputs, expected in _recorded(program, image):
        out = library.run_op(node, inputs)
        error = _relative_error(out, expected)
        if out.dtype != expected.dtype or error > (TOLERANCE if expected.dtype.kind == "f" else 0):
            return checked, f"op {node} differs from its reference by {error:.2g} on the reference's own inputs"
        checked += 1
    return checked, ""


def _recorded(program, image: np.ndarray):
    """(node, tensor inputs, output) of every op with a kernel, as the reference computes them."""
    import torch
    from torch import fx

    records = []

    class Recorder(fx.Interpreter):
        def run_node(self, node):
            out = super().run_node(node)
            if _has_kernel(node):
                inputs = [self.env[argument].numpy() for argument in _tensor_arguments(node)]
                records.append((node.name, inputs, out.numpy()))
            return out

    with torch.no_grad():
        Recorder(program.graph_module, garbage_collect_values=False).run(*_lifted(program), torch.from_numpy(image))
    return records


def _has_kernel(node) -> bool:
    """Whether the node computes something; the others only rename memory."""
    from backends.lowering import ops

    return node.op == "call_function" and node.target.__name__.split(".")[0] in ops()


def _tensor_arguments(node) -> list:
    """The nodes among an op's arguments, lists opened, repeated ones repeated."""
    values = [*node.args, *node.kwargs.values()]
    opened = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    return [item for item in opened if hasattr(item, "meta")]


def _lifted(program) -> list:
    """The stored tensors in the order of the graph's placeholders."""
    return [program.state_dict[name] for name in program.graph_signature.inputs_to_parameters.values()]


def _reference(program, image: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        out, = program.graph_module(*_lifted(program), torch.from_numpy(image))
    return out.numpy()


def _kind(program) -> str:
    """Which numbers the ops compute in, the quantise step at the entry and the scale at the exit aside."""
    nodes = [n for n in program.graph.nodes if _has_kernel(n)]
    integer = [any(_dtype(i) == "uint8" for i in n.all_input_nodes) or _dtype(n) in ("uint8", "int8") for n in nodes]
    return "integer" if all(integer) else "mixed" if any(integer) else "float"


def _dtype(node) -> str:
    return str(node.meta["val"].dtype).removeprefix("torch.")


def _relative_error(out: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference over the largest expected magnitude; infinite if any is not a number."""
    difference = np.abs(out.astype(np.float64) - expected.astype(np.float64))
    if not difference.size or np.isnan(difference).any():
        return float("inf")
    return float(difference.max() / max(np.abs(expected.astype(np.float64)).max(), 1e-30)) if difference.max() else 0.0
