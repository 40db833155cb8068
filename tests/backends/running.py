"""Compiling one kernel with its packing and running it beside what is expected of it.

On this machine, or on the target that NETWRIGHT_TEST_TARGET names: one whose code runs here, or that is emulated (`emulated.py`).
"""

import os
from collections import Counter

import numpy as np
import torch

import spaces.ops
from backends.lowering import algorithm_named, arguments_of, kernel, sources_of
from backends.target import Target, load
from backends.workload import Tensor, Workload
from tests.backends import emulated

spaces.ops.register_all()
TARGET = load(os.environ.get("NETWRIGHT_TEST_TARGET", "local"))
# Kernels run, by target and op: each an option of an algorithm on one workload.
COMPARED: Counter[tuple[str, str]] = Counter()


def tensor_of(value: torch.Tensor, layout: str = "plain") -> Tensor:
    """Shape and type as the backend writes them."""
    return Tensor(tuple(value.shape), str(value.dtype).removeprefix("torch."), layout if value.dim() == 4 else "plain")


def run(algorithm, workload: Workload, option: dict, inputs: list[torch.Tensor], target: Target = TARGET) -> np.ndarray:
    """Compiles one kernel with its packing, runs it on the inputs, and gives the result as torch would."""
    lowering = algorithm.lower(workload, target, option)
    functions = {"main": kernel([(workload, lowering, 0)], workload.result),
                 **{f"pack_{n}": p.function for n, p in lowering.packed.items()}}
    functions = {name: f.with_attr("global_symbol", name) for name, f in functions.items()}
    given = {name: np.ascontiguousarray(memory(value, tensor)) for (name, tensor), value in zip(workload.inputs, inputs)}
    arguments, calls = [], []
    for name, tensor in arguments_of(workload, lowering).items():
        if name in lowering.packed:
            arguments.append(np.full(tensor.shape, 77, tensor.dtype))
            calls.append((f"pack_{name}", [*(given[source] for source in sources_of(name, lowering)), arguments[-1]]))
        else:
            arguments.append(given[name])
    calls.append(("main", [*arguments, np.full(workload.result.memory, 77, workload.result.dtype)]))
    COMPARED[target.name, workload.op] += 1
    out = execute(functions, calls, target)
    return np.moveaxis(out, -1, 1) if workload.result.layout == "channels_last" else out


def execute(functions: dict, calls: list[tuple[str, list[np.ndarray]]], target: Target) -> np.ndarray:
    """As `emulated.execute`; in this process if the target's code runs here."""
    import tvm

    if target.triple:
        return emulated.execute(functions, calls, target)
    module = tvm.compile(tvm.IRModule(functions), target.tvm())
    tensors = {id(array): tvm.runtime.tensor(array) for _, arguments in calls for array in arguments}
    for name, arguments in calls:
        module[name](*(tensors[id(array)] for array in arguments))
    return tensors[id(calls[-1][1][-1])].numpy()


def memory(value: torch.Tensor, tensor: Tensor) -> np.ndarray:
    """The values in the order of the tensor's layout."""
    return value.permute(0, 2, 3, 1).numpy() if tensor.layout == "channels_last" else value.numpy()


def check(op: str, algorithm: str, names: list[str], inputs: list[torch.Tensor], arguments: dict, expected,
          image: str = "channels_last", out: str = "channels_last", tolerance: float = 1e-4,
          unpack: Workload | None = None, target: Target = TARGET) -> None:
    """Runs every option of an algorithm on a workload and compares with the expected result, within `tolerance` of the
    largest where it is a float. The first input lies as `image` says, the result as `out`; weights lie plain. `unpack`: what
    would unpack the tensors called `weight.<name>`."""
    layouts = ["plain" if name.partition(".")[0] in ("weight", "bitmap", "values") else image for name in names]
    tensors = tuple((name, tensor_of(value, layout)) for name, value, layout in zip(names, inputs, layouts))
    workload = Workload(op, tensors, tuple(arguments.items()), tensor_of(expected, out), unpack=unpack)
    module = algorithm_named(op, algorithm)
    if not module.serves(workload, target):
        return
    for option in module.options(workload, target):
        result = run(module, workload, option, inputs, target)
        if expected.dtype.is_floating_point and "int8" not in op:
            np.testing.assert_allclose(result, expected.numpy(), rtol=tolerance,
                                       atol=tolerance * float(expected.abs().max() + 1e-6))
        else:
            np.testing.assert_array_equal(result, expected.numpy())
