"""Workloads and lowerings: what a kernel file is asked for, and what it answers.

A workload is one op with its shapes, types and arguments, hashable, so that equal layers share one
kernel. A lowering is the kernel as a finished TIR function, and how stored weights are packed for it.
"""

from dataclasses import dataclass, field
from typing import Any


class CompileError(ValueError):
    """A network that cannot be compiled: the message names the op, its shapes and the target."""


@dataclass(frozen=True)
class Tensor:
    """Shape and type of a tensor argument or result."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """The number of elements."""
        size = 1
        for side in self.shape:
            size *= side
        return size


@dataclass(frozen=True)
class Workload:
    """An op on tensors: `tensors` by argument name in order, other arguments by name, the result."""

    op: str
    tensors: tuple[tuple[str, Tensor], ...]
    arguments: tuple[tuple[str, Any], ...]
    out: Tensor

    def __getitem__(self, name: str) -> Any:
        """The tensor or argument of that name."""
        return {**dict(self.tensors), **dict(self.arguments)}[name]

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {'x'.join(map(str, t.shape))} {t.dtype}" for name, t in self.tensors)
        return f"{self.op}({shapes})"


@dataclass(frozen=True)
class Packed:
    """A tensor as the kernel wants it: `function` (TIR: stored tensor, packed tensor) fills `tensor` once."""

    function: Any
    tensor: Tensor


@dataclass(frozen=True)
class Lowering:
    """`kernel`: a TIR function of the workload's tensors in order (packed where `packed` names them), then
    the result."""

    kernel: Any
    packed: dict[str, Packed] = field(default_factory=dict)
