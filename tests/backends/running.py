"""Running kernels: on this machine, or as code of another processor, emulated; many are compiled together."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np

import spaces.ops
from backends.codegen import loaded
from backends.cores import cores
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
    batches = [runs[begin:begin + TOGETHER] for begin in range(0, len(runs), TOGETHER)]
    if not target.triple:
        yield from (out for batch in batches for out in _outputs(batch, target))
        return
    with ThreadPoolExecutor(len(cores())) as pool:
        yield from chain.from_iterable(pool.map(lambda batch: _emulated(batch, target), batches))


def _outputs(runs: list[Run], target) -> Iterator[np.ndarray]:
    lowered = [run.algorithm.lower(run.workload, target, run.option) for run in runs]
    modules = loaded({name: function for i, (run, lowering) in enumerate(zip(runs, lowered))
                      for name, function in _functions(i, run, lowering).items()}, target)
    functions = {name: module[name] for name, module in modules.items()}
    for i, (run, lowering) in enumerate(zip(runs, lowered)):
        yield _output(run, lowering, functions[f"kernel{i}"], {name: functions[f"pack{i}_{name}"] for name in lowering.packed})


def _functions(i: int, run: Run, lowering) -> dict[str, Any]:
    """The TIR functions of a run, by names that the others of a batch do not have."""
    packing = {f"pack{i}_{name}": packed.function for name, packed in lowering.packed.items()}
    return {f"kernel{i}": kernel([(run.workload, lowering, run.first)], run.whole), **packing}


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


def _emulated(runs: list[Run], target) -> list[np.ndarray]:
    return emulated.execute([_case(i, run, target) for i, run in enumerate(runs)], target)


def _case(i: int, run: Run, target) -> emulated.Case:
    lowering = run.algorithm.lower(run.workload, target, run.option)
    given = {name: in_memory(value, tensor) for (name, tensor), value in zip(run.workload.inputs, run.inputs)}
    rooms = {name: untouched(packed.tensor) for name, packed in lowering.packed.items()}
    packing = [(f"pack{i}_{name}", [*(given[source] for source in sources_of(name, lowering)), room])
               for name, room in rooms.items()]
    main = [(given | rooms)[name] for name in arguments_of(run.workload, lowering)]
    named = {name: function.with_attr("global_symbol", name) for name, function in _functions(i, run, lowering).items()}
    return emulated.Case(str(run), named, [*packing, (f"kernel{i}", [*main, untouched(run.whole)])])


def untouched(tensor: Tensor) -> np.ndarray:
    """Memory of a tensor in which every number shows that nobody wrote it."""
    return np.full(tensor.memory, UNTOUCHED, tensor.dtype)


def _room(tensor: Tensor):
    import tvm

    return tvm.runtime.tensor(untouched(tensor))
