"""Running kernels: on this machine, many compiled together, or as code of another processor, emulated one by one."""

from collections.abc import Iterator

import numpy as np

import spaces.ops
from backends.codegen import loaded
from backends.lowering import arguments_of, kernel, sources_of
from backends.target import load
from backends.tune import in_memory
from backends.workload import Tensor
from tests.backends import emulated
from tests.backends.runs import UNTOUCHED, Run

spaces.ops.register_all()
TARGET = load("local")
TOGETHER = 32


def failures(runs: list[Run], target=TARGET) -> list[str]:
    """The runs whose kernels compute something else, and what."""
    results = zip(runs, outputs(runs, target))
    return [f"{run}: {wrong}" for run, wrong in ((run, run.wrong(out)) for run, out in results) if wrong]


def outputs(runs: list[Run], target=TARGET) -> Iterator[np.ndarray]:
    """What each kernel leaves in memory."""
    if target.triple:
        yield from (_emulated(run, target) for run in runs)
        return
    for begin in range(0, len(runs), TOGETHER):
        yield from _outputs(runs[begin:begin + TOGETHER], target)


def _outputs(runs: list[Run], target) -> Iterator[np.ndarray]:
    lowered = [run.algorithm.lower(run.workload, target, run.option) for run in runs]
    kernels = {f"kernel{i}": kernel([(run.workload, lowering, run.first)], run.whole)
               for i, (run, lowering) in enumerate(zip(runs, lowered))}
    packing = {f"pack{i}_{name}": packed.function
               for i, lowering in enumerate(lowered) for name, packed in lowering.packed.items()}
    modules = loaded(kernels | packing, target)
    functions = {name: module[name] for name, module in modules.items()}
    for i, (run, lowering) in enumerate(zip(runs, lowered)):
        yield _output(run, lowering, functions[f"kernel{i}"], {name: functions[f"pack{i}_{name}"] for name in lowering.packed})


def _output(run: Run, lowering, function, packers) -> np.ndarray:
    import tvm

    given = {name: tvm.runtime.tensor(in_memory(value, tensor))
             for (name, tensor), value in zip(run.workload.inputs, run.inputs)}
    rooms = {name: _room(packed.tensor) for name, packed in lowering.packed.items()}
    for name, pack in packers.items():
        pack(*(given[source] for source in sources_of(name, lowering)), rooms[name])
    out = _room(run.whole)
    function(*((given | rooms)[name] for name in arguments_of(run.workload, lowering)), out)
    return out.numpy()


def _emulated(run: Run, target) -> np.ndarray:
    lowering = run.algorithm.lower(run.workload, target, run.option)
    functions = {"main": kernel([(run.workload, lowering, run.first)], run.whole),
                 **{f"pack_{name}": packed.function for name, packed in lowering.packed.items()}}
    given = {name: in_memory(value, tensor) for (name, tensor), value in zip(run.workload.inputs, run.inputs)}
    rooms = {name: untouched(packed.tensor) for name, packed in lowering.packed.items()}
    calls = [(f"pack_{name}", [*(given[source] for source in sources_of(name, lowering)), room]) for name, room in rooms.items()]
    main = [(given | rooms)[name] for name in arguments_of(run.workload, lowering)]
    named = {name: function.with_attr("global_symbol", name) for name, function in functions.items()}
    return emulated.execute(named, [*calls, ("main", [*main, untouched(run.whole)])], target)


def untouched(tensor: Tensor) -> np.ndarray:
    """Memory of a tensor in which every number shows that nobody wrote it."""
    return np.full(tensor.memory, UNTOUCHED, tensor.dtype)


def _room(tensor: Tensor):
    import tvm

    return tvm.runtime.tensor(untouched(tensor))
