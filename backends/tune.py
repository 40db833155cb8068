"""Finding the fastest kernel of a workload: every option is compiled, checked against torch, then timed.

A workload's options are compiled together, on all cores, in this process, then timed one by one, so a trial costs its
code generation and a few milliseconds of runs. Steps that follow the op and its clamp do not change which option is fastest:
they are left out, and workloads that differ only there share one record.
"""

from dataclasses import dataclass, replace
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from backends.codegen import loaded
from backends.cores import apart
from backends.gating import GATED, ungated
from backends.lowering import algorithm_named, algorithms, arguments_of, choices, kernel, name_of, no_kernel, sources_of
from backends.store import Store, Trial
from backends.target import Target
from backends.unpacking import plain
from backends.workload import Lowering, Tensor, Workload

TOLERANCE = 1e-4
# Scales up to this make a product of `random_inputs` some 85 steps; sqrt(n) times smaller ones a sum of n.
SCALE_OF_ONE = 2.0**-6
SAMPLE_S, SAMPLES, CLOSE = 1e-3, 4, 1.1


def bare(workload: Workload) -> Workload:
    """The workload that is measured in its place: no steps, no clamp, and other numbers in the last step. They change no
    time, but what a kernel computes wrong shows: sums of `random_inputs` spread over the bytes, and padding weighs most."""
    float_bounds = workload.out.dtype == "float32"
    low, high = (float("-inf"), float("inf")) if float_bounds else (0.0, 255.0)
    usual, given = {"low": low, "high": high}, dict(workload.arguments)
    if "out_zero_point" in given:
        usual["out_zero_point"] = 128
    if given.get("zero_point"):
        usual["zero_point"] = 255
    arguments = tuple((name, usual.get(name, value)) for name, value in workload.arguments)
    return replace(workload, arguments=arguments, then=())


def best(workload: Workload, target: Target, store: Store, retune: bool = False) -> Trial:
    """The fastest option, from the store or measured now. CompileError if no kernel file serves the workload or
    every option miscomputes."""
    workload = bare(workload)
    if retune:
        store.forget(workload)
    found = store.best(workload)
    if found is None:
        store.add(workload, tune(workload, target))
        found = store.best(workload)
    if found is None:
        raise no_kernel(workload, target)
    return found


@dataclass(frozen=True)
class _Option:
    """A compiled option: runs into `out` with its packed arguments."""

    algorithm: str
    option: dict[str, Any]
    function: Any
    timer: Any
    arguments: list
    out: Any


def tune(workload: Workload, target: Target) -> list[Trial]:
    """Measures every option on random inputs. Wrong results are refused and never timed."""
    found = choices(workload, target)
    inputs = random_inputs(workload)
    expected = reference(workload, inputs)
    options, refused = [], []
    for option in _compiled(workload, target, found, inputs):
        option.function(*option.arguments, option.out)
        error = difference(option.out.numpy(), expected)
        if error > (TOLERANCE if expected.dtype.kind == "f" else 0):
            refused.append(Trial(option.algorithm, option.option, (), f"differs from torch by {error:.2g}"))
        else:
            options.append(option)
    with apart(target.threads):
        return _timed(options) + refused


def _timed(options: list[_Option]) -> list[Trial]:
    """A first sample of each; those close to the best take turns for the rest."""
    samples = {id(option): [] for option in options}
    runs = {id(option): _runs(option) for option in options}
    for turn in range(SAMPLES):
        least = min((min(taken) for taken in samples.values() if taken), default=float("inf"))
        for option in options:
            taken = samples[id(option)]
            if turn == 0 or min(taken) <= CLOSE * least:
                taken.append(1e6 * option.timer(runs[id(option)], *option.arguments, option.out))
    return [Trial(option.algorithm, option.option, tuple(samples[id(option)])) for option in options]


def in_turns(chosen: list[tuple[Workload, Trial]], target: Target, rounds: int) -> list[list[float]]:
    """Microseconds of each workload's kernel with the option of its trial, on random inputs, once a round."""
    options = [_compiled(workload, target, [(algorithm_named(workload.op, trial.algorithm), trial.option)],
                         random_inputs(workload))[0] for workload, trial in chosen]
    runs = [_runs(option) for option in options]
    samples = [[1e6 * option.timer(number, *option.arguments, option.out) for option, number in zip(options, runs)]
               for _ in range(rounds)]
    return [list(taken) for taken in zip(*samples)]


def _runs(option: _Option) -> int:
    """Runs that fill a sample."""
    return max(1, round(SAMPLE_S / option.timer(1, *option.arguments, option.out)))


def _compiled(workload: Workload, target: Target, found: list[tuple[ModuleType, dict]], inputs) -> list[_Option]:
    """All options, with what packs their weights; options that pack alike share it."""
    lowered = [(algorithm, option, algorithm.lower(workload, target, option)) for algorithm, option in found]
    packing = {packed.key: (f"pack{i}_{place}", packed.function) for i, (_, _, lowering) in enumerate(lowered)
               for place, packed in enumerate(lowering.packed.values())}
    kernels = {f"kernel{i}": kernel([(workload, lowering, 0)], workload.out) for i, (_, _, lowering) in enumerate(lowered)}
    modules = loaded({**kernels, **dict(packing.values())}, target)
    packs = {key: modules[name][name] for key, (name, _) in packing.items()}
    return [_option(modules[name], name, packs, workload, *each, inputs) for name, each in zip(kernels, lowered)]


def _option(module, kernel_name: str, packs: dict, workload: Workload, algorithm, option: dict, lowering: Lowering,
            inputs) -> _Option:
    import tvm

    given = {name: tvm.runtime.tensor(in_memory(value, workload[name])) for name, value in inputs.items()}
    arguments = []
    for name, tensor in arguments_of(workload, lowering).items():
        if name in lowering.packed:
            room = tvm.runtime.tensor(np.zeros(tensor.memory, tensor.dtype))
            packs[lowering.packed[name].key](*(given[source] for source in sources_of(name, lowering)), room)
        arguments.append(room if name in lowering.packed else given[name])
    out = tvm.runtime.tensor(np.zeros(workload.out.memory, workload.out.dtype))

    def timer(number: int, *values) -> float:
        return float(module.time_evaluator(kernel_name, tvm.cpu(), number=number)(*values).mean)
    return _Option(name_of(algorithm), option, module[kernel_name], timer, arguments, out)


def random_inputs(workload: Workload) -> dict[str, np.ndarray]:
    """Random values of every input by name, in the shapes of torch. A kernel file whose inputs depend on each other
    gives them itself (`inputs(workload, rng)`)."""
    rng = np.random.default_rng(0)
    for algorithm in algorithms(workload.op):
        if hasattr(algorithm, "inputs"):
            return algorithm.inputs(workload, rng)
    stored = random_inputs(workload.unpack) if workload.unpack else {}
    packed = {f"weight.{name}": value for name, value in stored.items()}
    inputs = {name: packed[name] if name in packed else _random(rng, name, tensor) for name, tensor in workload.inputs}
    return inputs | _scales(workload, rng)


def _scales(workload: Workload, rng) -> dict[str, np.ndarray]:
    """Of a layer that gives bytes: those by which its sums spread over them."""
    if "scale" not in workload.parameters or workload.out.dtype != "uint8":
        return {}
    outputs, *rest = workload["weight"].shape
    return {"scale": SCALE_OF_ONE / prod(rest) ** 0.5 * rng.random(outputs, np.float32)}


def _random(rng, name: str, tensor: Tensor) -> np.ndarray:
    if tensor.dtype == "float32":
        return rng.standard_normal(tensor.shape, np.float32)
    low, high = (-20_000, 20_000) if name == "bias" else (np.iinfo(tensor.dtype).min, np.iinfo(tensor.dtype).max)
    return rng.integers(low, high, tensor.shape, tensor.dtype, endpoint=True)


def reference(workload: Workload, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """What torch computes: the deployed op of that name, or torch's own, as the result lies in memory."""
    import torch

    with torch.no_grad():
        return in_memory(_computed(workload, {name: torch.from_numpy(value) for name, value in inputs.items()}).numpy(),
                         workload.out)


def _computed(workload: Workload, inputs: dict):
    """The op on torch tensors by name; packed weights are unpacked first."""
    import torch

    if workload.unpack:
        whole = plain(workload)
        weight = _computed(workload.unpack, {name: inputs[f"weight.{name}"] for name, _ in workload.unpack.tensors})
        return _computed(whole, {name: weight if name == "weight" else inputs[name] for name, _ in whole.inputs})
    if workload.op == GATED:
        return _computed(ungated(workload), {**inputs, "x": inputs["x"] * inputs["weight.gate"]})
    op = getattr(torch.ops.netwright, workload.op, None) or getattr(torch.ops.aten, workload.op)
    named = {name: list(value) if isinstance(value, tuple) else value for name, value in workload.arguments}
    return op(*(inputs[name] for name, _ in workload.inputs), **named)


def in_memory(value: np.ndarray, tensor: Tensor) -> np.ndarray:
    """An array of the tensor's shape as it lies in memory."""
    if tensor.layout != "plain":
        value = np.moveaxis(value, 1, -1)
    return np.ascontiguousarray(value)


def difference(out: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference over the largest expected magnitude; infinite if any is not a number."""
    wide = expected.astype(np.float64)
    error = np.abs(out.astype(np.float64) - wide)
    if not error.size or np.isnan(error).any():
        return float("inf")
    return float(error.max() / max(np.abs(wide).max(), 1e-30)) if error.max() else 0.0
