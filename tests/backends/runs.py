"""What is to be run of an op's cases (`tests/cases`): kernel file and option, workload, inputs, and the expected result; how
it is run is another matter (`running`).

A case is run with the layouts, step and place in a concatenation that its number says: every fourth image lies plane by
plane, as it enters a network; every third result goes through a step before it is stored; every fifth is some channels
of a larger tensor.
"""

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from backends.lowering import algorithms, is_step, ops, takes_steps
from backends.unpacking import compound
from backends.workload import CHANNELS_LAST, PLAIN, Step, Tensor, Workload
from tests.cases import Case, called, case, definition

RARE = 8  # cases drawn for one that a kernel serves, at most
FROM, BESIDE = 3, 7  # the first channel in a concatenation, and the channels of others
GAIN = 5  # no step multiplies a difference by more
STEPS = [op for op in ops() if is_step(op)]
UNTOUCHED = 77


@dataclass(frozen=True)
class Run:
    """A kernel file (None: not chosen yet) with one of its options on a workload: the inputs in order and the expected
    result, both in torch's shapes, by how much a number of the result may differ, and the channel of a tensor of `channels`
    in which the results begin (a concatenation)."""

    algorithm: ModuleType | None
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
    """The case's workload. Images lie channels last, but the first as `image` and the result as `out` says; weights lie
    plain."""
    if case.op.startswith("unpack_"):
        image = out = PLAIN
    layouts = dict.fromkeys(case.tensors, CHANNELS_LAST) | {next(iter(case.tensors)): image, "weight": PLAIN}
    tensors = tuple((name, tensor_of(value, layouts[name])) for name, value in case.tensors.items())
    layer, _, _ = case.op.partition("_unpack_")
    plain = Workload(layer, tensors, frozen(case.arguments), tensor_of(case.expected, out))
    return compound(plain, workload_of(case.unpack)) if case.unpack else plain


def inputs_of(case: Case) -> tuple[np.ndarray, ...]:
    """The case's tensors in the order of its workload's."""
    packed = list(case.unpack.tensors.values()) if case.unpack else []
    replaced = {"weight": packed} if packed else {}
    return tuple(value for name, dense in case.tensors.items() for value in replaced.get(name, [dense]))


def frozen(arguments: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Arguments as a workload holds them."""
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in arguments.items())


def every_algorithm(run: Run, number: int, target) -> list[Run]:
    """The run by each kernel file that serves it, with the option whose turn it is."""
    serving = [a for a in algorithms(run.workload.op) if a.serves(run.workload, target)]
    options = [a.options(run.workload, target) for a in serving]
    return [replace(run, algorithm=a, option=each[number % len(each)]) for a, each in zip(serving, options)]


def every_option(algorithm: ModuleType, workload: Workload, inputs, expected, target, **rest) -> list[Run]:
    """The run of a kernel file with each of its options."""
    return [Run(algorithm, option, workload, tuple(inputs), expected, **rest) for option in algorithm.options(workload, target)]


def run_of(case: Case, image: str = CHANNELS_LAST, out: str = CHANNELS_LAST) -> Run:
    """The case, not yet by any kernel."""
    return Run(None, {}, workload_of(case, image, out), inputs_of(case), case.expected, case.allowed)


def varied(case: Case) -> Run:
    """The case with the layout, step and place of its number."""
    if case.op.startswith("unpack_"):
        return run_of(case)
    image = PLAIN if case.number % 4 == 3 else CHANNELS_LAST
    run = run_of(case, image, PLAIN if case.op == "clone" and case.number % 2 else CHANNELS_LAST)
    if case.number % 3 == 2 and takes_steps(case.op) and run.workload.out == tensor_of(case.expected, CHANNELS_LAST):
        run = followed(run, step_for(case))
    return replace(run, first=FROM, channels=run.expected.shape[1] + BESIDE) if case.number % 5 == 4 else run


def step_for(case: Case) -> Case:
    """A call, on tensors of the result's shape and type, of the step whose turn it is."""
    rng = np.random.default_rng(case.number)
    calls = [Case(op, case.number, *definition(op).inputs(rng, case.expected.shape), case.expected) for op in STEPS]
    fitting = [call for call in calls if next(iter(call.tensors.values())).dtype == case.expected.dtype]
    return fitting[case.number // 3 % len(fitting)]


def followed(run: Run, step: Case) -> Run:
    """The run with the step on its result, which takes the place of one of the step's tensors."""
    names = list(step.tensors)
    place = names[step.number % len(names)]
    step = called(step.op, step.number, step.tensors | {place: run.expected}, step.arguments)
    operands = {name: None if name == place else tensor_of(value, CHANNELS_LAST) for name, value in step.tensors.items()}
    then = Step(step.op, tuple(operands.values()), frozen(step.arguments), tensor_of(step.expected, CHANNELS_LAST))
    others = tuple(value for name, value in step.tensors.items() if name != place)
    return replace(run, workload=replace(run.workload, then=(then,)), inputs=run.inputs + others, expected=step.expected,
                   allowed=allowed_after(run, step))


def allowed_after(run: Run, step: Case) -> float:
    """By how much a result may differ behind a step: one where a float that may differ is rounded."""
    if step.op == "quantize":
        return float(run.allowed > 0)
    return max(GAIN * run.allowed, step.allowed)


def served(op: str, count: int, target) -> list[list[Run]]:
    """The first so many cases of an op that some kernel file serves, by each that does."""
    found, number = [], 0
    while len(found) < count and number < RARE * count:
        found += [runs for runs in [every_algorithm(varied(case(op, number)), number, target)] if runs]
        number += 1
    return found
