"""Writing TIR functions with explicit vectors: flat views of tensors, loops, loads, splats, vectors of a range."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from backends.workload import Tensor


def function(tensors: list[Tensor], body: Callable[..., None]):
    """A TIR function of `tensors`; `body` gets a flat one-dimensional view of each."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    with IRBuilder() as builder:
        with T.prim_func(is_private=True, s_tir=False):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
            declared = [T.arg(f"t{i}", T.buffer(tensor.memory, tensor.dtype)) for i, tensor in enumerate(tensors)]
            body(*(T.decl_buffer((tensor.size,), tensor.dtype, data=buffer.data)
                   for buffer, tensor in zip(declared, tensors)))
    return builder.get()


def loop(extent: int, parallel: bool = False):
    """`with loop(n) as i`: 0 to n - 1, on all of the target's threads if `parallel`."""
    from tvm.tirx.script.builder import ir as T

    return T.parallel(0, extent) if parallel else T.serial(0, extent)


def loop_between(first, end):
    """`with loop_between(first, end) as i`: first to end - 1."""
    from tvm.tirx.script.builder import ir as T

    return T.serial(first, end)


@contextmanager
def when(condition):
    """`with when(condition)`: only if it holds; a condition known now costs nothing."""
    from tvm.tirx.script.builder import ir as T

    if condition is True:
        yield
    else:
        with T.If(condition), T.Then():
            yield


def scratch(size: int, dtype: str, registers: bool = False):
    """Memory of the kernel's own; `registers` for tiles that LLVM is to keep in registers."""
    from tvm.tirx.script.builder import ir as T

    return T.alloc_buffer((size,), dtype, scope="local" if registers else "global")


def at(index, lanes: int, stride: int = 1):
    """The index of `lanes` elements from `index` on."""
    from tvm import tirx

    return tirx.Ramp(index, stride, lanes) if lanes > 1 else index


def load(buffer, index, lanes: int = 1, stride: int = 1):
    """`lanes` elements of a flat buffer."""
    return buffer[at(index, lanes, stride)]


def store(buffer, value, index, lanes: int = 1, stride: int = 1) -> None:
    """Writes a value of `lanes` elements."""
    from tvm.tirx.script.builder import ir as T

    T.buffer_store(buffer, value, [at(index, lanes, stride)])


def bind(value):
    """Computes a value once, here."""
    from tvm.tirx.script.builder import ir as T

    return T.Bind(value)


def splat(value, lanes: int):
    """A scalar in every lane."""
    from tvm import tirx

    return tirx.Broadcast(value, lanes) if lanes > 1 else value


def constant(value: float | int, dtype: str, lanes: int = 1):
    """A constant in every lane."""
    from tvm import tirx

    return splat(tirx.const(value, dtype), lanes)


def cast(value, dtype: str, lanes: int = 1):
    """A conversion lane by lane."""
    return value.astype(f"{dtype}x{lanes}" if lanes > 1 else dtype)


def clamp(value, low: float, high: float, dtype: str, lanes: int):
    """min(max(value, low), high), leaving out infinite bounds."""
    import math

    from tvm import tirx

    if low > -math.inf:
        value = tirx.max(value, constant(low, dtype, lanes))
    return tirx.min(value, constant(high, dtype, lanes)) if high < math.inf else value


@dataclass(frozen=True)
class Segment:
    """`count` vectors of `lanes` elements from `start` on."""

    start: int
    count: int
    lanes: int


def segments(extent: int, lanes: int) -> Iterator[Segment]:
    """Covers 0..extent without overlap: full vectors first, then halves of lanes."""
    start = 0
    for width in (lanes >> i for i in range(lanes.bit_length())):
        count = (extent - start) // width
        if count:
            yield Segment(start, count, width)
            start += count * width
