"""Kernels on cases: what is to be run (workload, option, inputs, what is expected), and running it on this machine, many kernels compiled
together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

import spaces.ops
from backends.codegen import loaded
from backends.lowering import algorithms, arguments_of, kernel, sources_of
from backends.target import load
from backends.tune import in_memory
from backends.unpacking import compound
from backends.workload import CHANNELS_LAST, PLAIN, Tensor, Workload
from tests.cases import Case

spaces.ops.register_all()
TARGET = load("local")
TOGETHER = 32
UNTOUCHED = 77


@dataclass(frozen=True)
class Run:
    """A kernel file with one of its options on a workload: the inputs in order and the expected result, both in torch's shapes, by how
    much a number of the result may differ, and the channel of a tensor of `channels` in which the results begin (a concatenation)."""

    algorithm: ModuleType
    option: dict[str, Any]
    workload: Workload
    inputs: tuple[np.ndarray, ...]
    expected: np.ndarray
    allowed: float = 0.0
    first: int = 0
    channels: int = 0

    @property
    def whole(self) -> Tensor:
        """The tensor into which the kernel writes."""
        result = self.workload.result
        return replace(result, shape=(result.shape[0], self.channels, *result.shape[2:])) if self.channels else result

    def wrong(self, out: np.ndarray) -> str:
        """How the memory that the kernel wrote differs from what is expected; empty if it does not."""
        out = np.moveaxis(out, -1, 1) if self.whole.layout == CHANNELS_LAST else out
        if self.channels:
            ours = slice(self.first, self.first + self.expected.shape[1])
            out, others = out[:, ours], np.delete(out, ours, 1)
            if not (others == UNTOUCHED).all():
                return "it writes channels that are not its own"
        if out.dtype != self.expected.dtype:
            return f"it gives {out.dtype}, not {self.expected.dtype}"
        differ = ~(np.abs(out.astype(float) - self.expected.astype(float)) <= self.allowed)
        if not differ.any():
            return ""
        where = tuple(map(int, np.argwhere(differ)[0]))
        return f"{differ.sum()} of {differ.size} differ, first {where}: {out[where]}, not {self.expected[where]}"

    def __str__(self) -> str:
        return f"{self.algorithm.__name__} {self.option}, channel {self.first}: {self.workload} {dict(self.workload.arguments)}"


def tensor_of(value: np.ndarray, layout: str = PLAIN) -> Tensor:
    """Shape and type of an array, or torch tensor, as the backend writes them."""
    return Tensor(tuple(value.shape), str(value.dtype).removeprefix("torch."), layout if value.ndim == 4 else PLAIN)


def workload_of(case: Case, image: str = CHANNELS_LAST, out: str = CHANNELS_LAST) -> Workload:
    """The case's workload. Images lie channels last, but the first as `image` says and the result as `out` says; weights lie plain."""
    weights = case.op.startswith("unpack_")
    first = next(iter(case.tensors))
    layouts = {name: PLAIN if weights or name == "weight" else image if name == first else CHANNELS_LAST for name in case.tensors}
    tensors = tuple((name, tensor_of(value, layouts[name])) for name, value in case.tensors.items())
    plain = Workload(case.op.partition("_unpack_")[0], tensors, frozen(case.arguments), tensor_of(case.expected, PLAIN if weights else out))
    return compound(plain, workload_of(case.unpack)) if case.unpack else plain


def inputs_of(case: Case) -> tuple[np.ndarray, ...]:
    """The case's tensors in the order of its workload's."""
    packed = list(case.unpack.tensors.values()) if case.unpack else []
    return tuple(value for name, dense in case.tensors.items() for value in (packed if packed and name == "weight" else [dense]))


def frozen(arguments: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Arguments as a workload holds them."""
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in arguments.items())


def every_algorithm(run: Run, number: int, target) -> list[Run]:
    """The run by each kernel file that serves it, with the option whose turn it is."""
    serving = [a for a in algorithms(run.workload.op) if a.serves(run.workload, target)]
    options = [a.options(run.workload, target) for a in serving]
    return [replace(run, algorithm=a, option=each[number % len(each)]) for a, each in zip(serving, options)]


def every_option(algorithm: ModuleType, workload: Workload, inputs, expected, target=TARGET, **rest) -> list[Run]:
    """The run of a kernel file with each of its options."""
    return [Run(algorithm, option, workload, tuple(inputs), expected, **rest) for option in algorithm.options(workload, target)]


def failures(runs: list[Run], target) -> list[str]:
    """The runs whose kernels compute something else, and what."""
    results = zip(runs, outputs(runs, target))
    return [f"{run}: {wrong}" for run, wrong in ((run, run.wrong(out)) for run, out in results) if wrong]


def outputs(runs: list[Run], target=TARGET) -> Iterator[np.ndarray]:
    """What each kernel leaves in memory."""
    for begin in range(0, len(runs), TOGETHER):
        yield from _outputs(runs[begin:begin + TOGETHER], target)


def _outputs(runs: list[Run], target) -> Iterator[np.ndarray]:
    lowered = [run.algorithm.lower(run.workload, target, run.option) for run in runs]
    kernels = {f"kernel{i}": kernel([(run.workload, lowering, run.first)], run.whole) for i, (run, lowering) in enumerate(zip(runs, lowered))}
    packing = {f"pack{i}_{name}": packed.function for i, lowering in enumerate(lowered) for name, packed in lowering.packed.items()}
    modules = loaded(kernels | packing, target)
    functions = {name: module[name] for name, module in modules.items()}
    for i, (run, lowering) in enumerate(zip(runs, lowered)):
        yield _output(run, lowering, functions[f"kernel{i}"], {name: functions[f"pack{i}_{name}"] for name in lowering.packed})


def _output(run: Run, lowering, function, packers) -> np.ndarray:
    import tvm

    given = {name: tvm.runtime.tensor(in_memory(value, tensor)) for (name, tensor), value in zip(run.workload.inputs, run.inputs)}
    rooms = {name: _room(packed.tensor) for name, packed in lowering.packed.items()}
    for name, pack in packers.items():
        pack(*(given[source] for source in sources_of(name, lowering)), rooms[name])
    out = _room(run.whole)
    function(*((given | rooms)[name] for name in arguments_of(run.workload, lowering)), out)
    return out.numpy()


def _room(tensor: Tensor):
    import tvm

    return tvm.runtime.tensor(np.full(tensor.memory, UNTOUCHED, tensor.dtype))
