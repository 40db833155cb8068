"""Workloads and lowerings: what a kernel file is asked for, and what it answers.

A workload is one op with its shapes, types and arguments, and the element-wise steps that follow it;
it is hashable, so that equal layers share one kernel. A lowering writes the kernel's code and says how
stored weights are packed for it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

PLAIN, CHANNELS_LAST = "plain", "channels_last"


class CompileError(ValueError):
    """A network that cannot be compiled: the message names the op, its shapes and the target."""


@dataclass(frozen=True)
class Tensor:
    """Shape and type of a tensor. `layout`: "plain" as the shape says, or "channels_last": a shape
    [N, C, H, W] whose elements lie as [N, H, W, C]."""

    shape: tuple[int, ...]
    dtype: str
    layout: str = PLAIN

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def memory(self) -> tuple[int, ...]:
        """The shape as it lies in memory."""
        if self.layout == PLAIN:
            return self.shape
        batch, channels, *sides = self.shape
        return (batch, *sides, channels)

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} {self.dtype}" + (f" {self.layout}" if self.layout != PLAIN else "")


@dataclass(frozen=True)
class Step:
    """An element-wise op on a kernel's results before they are stored. `operands`: its tensors in order, None
    for the results; `out`: what it gives."""

    op: str
    operands: tuple[Tensor | None, ...]
    arguments: tuple[tuple[str, Any], ...]
    out: Tensor

    def __str__(self) -> str:
        return self.op


@dataclass(frozen=True)
class Workload:
    """An op on tensors: `tensors` by argument name in order, other arguments by name, what the op gives, and the
    steps `then` applied to it.

    An op computed straight from packed weights has `unpack`, the workload of the op that would unpack them: its tensors stand
    among `tensors` as `weight.<name>`, and the op is called `<op>_<unpack's op>`."""

    op: str
    tensors: tuple[tuple[str, Tensor], ...]
    arguments: tuple[tuple[str, Any], ...]
    out: Tensor
    then: tuple[Step, ...] = ()
    unpack: "Workload | None" = None

    def __getitem__(self, name: str) -> Any:
        """The tensor or argument of that name; `weight` is the unpacked one where weights are packed."""
        unpacked = {"weight": self.unpack.out} if self.unpack else {}
        return {**unpacked, **dict(self.tensors), **dict(self.arguments)}[name]

    @property
    def result(self) -> Tensor:
        """What the last step gives."""
        return self.then[-1].out if self.then else self.out

    @property
    def inputs(self) -> tuple[tuple[str, Tensor], ...]:
        """The op's tensors and the steps' operands, by name, in the order in which a kernel takes them."""
        operands = tuple((f"step{i}_{j}", operand) for i, step in enumerate(self.then)
                         for j, operand in enumerate(step.operands) if operand is not None)
        return self.tensors + operands

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the tensors of a convolution or dense layer that hold one number an output channel."""
        return tuple(name for name, _ in self.tensors if name != "x" and name.partition(".")[0] != "weight")

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {tensor}" for name, tensor in self.inputs)
        return "+".join([self.op, *(step.op for step in self.then)]) + f"({shapes})"


@dataclass(frozen=True)
class Packed:
    """A tensor as the kernel wants it: `function` (TIR: the workload's tensors `sources`, then the packed one) fills
    `tensor` once. Without sources it stands in the place of the workload's tensor of its own name."""

    function: Any
    tensor: Tensor
    sources: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A digest of the function: equal ones have one."""
        from tvm_ffi import structural_hash

        return f"{structural_hash(self.function):x}"


@dataclass(frozen=True)
class Lowering:
    """`body(buffers, sink)` writes the kernel: `buffers` are flat, by the workload's tensor names (packed where
    `packed` names them, left out where they are only sources of packed ones); `sink` takes each result
    (`backends.sink.Sink`)."""

    body: Callable[[dict[str, Any], Any], None]
    packed: dict[str, Packed] = field(default_factory=dict)


def one_way(workload: Workload, target) -> list[dict[str, Any]]:
    """The options of a kernel file that has no choice."""
    return [{}]
