"""Which kernel files serve a workload: the folder of its op is walked.

A file has `serves(workload, target)`, `options(workload, target)` (a short list, best guess first) and
`lower(workload, target, option)`; files with `value` compute element by element and can follow others.
"""

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from backends.emit import function
from backends.sink import Sink
from backends.target import Target
from backends.workload import CompileError, Lowering, Tensor, Workload

FOLDER = Path(__file__).parent / "kernels"


@cache
def ops() -> list[str]:
    """The ops that have kernels."""
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir() and not path.name.startswith("_"))


@cache
def algorithms(op: str) -> tuple[ModuleType, ...]:
    """The kernel files of an op, first choice first; none for an op without a folder."""
    found = sorted(module.name for module in pkgutil.iter_modules([str(FOLDER / op)]))
    modules = [importlib.import_module(f"backends.kernels.{op}.{name}") for name in found]
    return tuple(sorted(modules, key=lambda module: module.PRIORITY))


def name_of(algorithm: ModuleType) -> str:
    """The algorithm's name: its file's."""
    return algorithm.__name__.rpartition(".")[2]


def algorithm_named(op: str, name: str) -> ModuleType:
    """The kernel file `kernels/<op>/<name>.py`."""
    return next(algorithm for algorithm in algorithms(op) if name_of(algorithm) == name)


def choices(workload: Workload, target: Target) -> list[tuple[ModuleType, dict[str, Any]]]:
    """Every algorithm that serves the workload with each of its options, best guess first."""
    serving = [algorithm for algorithm in algorithms(workload.op) if algorithm.serves(workload, target)]
    return [(algorithm, option) for algorithm in serving for option in algorithm.options(workload, target)]


def served_on(target: Target):
    """A function that tells whether some kernel file serves a workload on the target."""
    return lambda workload: any(algorithm.serves(workload, target) for algorithm in algorithms(workload.op))


def no_kernel(workload: Workload, target: Target) -> CompileError:
    """Names an op that no kernel file serves."""
    known = ", ".join(name_of(a) for a in algorithms(workload.op)) or "none"
    return CompileError(f"no kernel for {workload} on {target.name}; backends/kernels/{workload.op} has {known}")


def is_step(op: str) -> bool:
    """Whether an op computes element by element, so that it can follow another in one kernel."""
    return any(hasattr(algorithm, "value") for algorithm in algorithms(op))


def takes_steps(op: str) -> bool:
    """Whether the op's kernels give their results to the sink, so that steps can follow; files that write memory
    themselves say `ALONE = True`."""
    return not any(getattr(algorithm, "ALONE", False) for algorithm in algorithms(op))


@cache
def value_of(op: str):
    """The value function of an element-wise op."""
    return next(algorithm.value for algorithm in algorithms(op) if hasattr(algorithm, "value"))


def kernel(parts: list[tuple[Workload, Lowering, int]], out: Tensor):
    """The TIR function of (every part's inputs in order, packed where it packs, then the result): each part writes
    its channels of the result from its first channel on."""
    tensors = [tensor for workload, lowering, _ in parts for tensor in arguments_of(workload, lowering).values()]

    def body(*buffers):
        *inputs, result = buffers
        rest = iter(inputs)
        for workload, lowering, channel in parts:
            named = {name: next(rest) for name in arguments_of(workload, lowering)}
            lowering.body(named, Sink.of(workload, named, result, out, channel))
    return function([*tensors, out], body)


def arguments_of(workload: Workload, lowering: Lowering) -> dict[str, Tensor]:
    """The tensors that a kernel takes, by name: the workload's, packed where the lowering packs; what is packed from
    others stands last."""
    consumed = {source for packed in lowering.packed.values() for source in packed.sources}
    kept = {name: tensor for name, tensor in workload.inputs if name not in consumed}
    return kept | {name: packed.tensor for name, packed in lowering.packed.items()}


def sources_of(name: str, lowering: Lowering) -> tuple[str, ...]:
    """The workload's tensors from which a packed one is made."""
    return lowering.packed[name].sources or (name,)
