"""A network's kernels called one after the other by one compiled function, their results in memory planned beforehand.

That is less than Relax's virtual machine takes to allocate, call and release. The tensors that kernels hand to each other
are described once, on the stack (DLPack's DLTensor), as are the arguments of each call (TVMFFIAny). TVM's own lowering
of such calls (`tvm_call_cpacked`) declares a function anew at each call and so cannot call one twice.

On several threads one of them calls, and the others help where kernels share loops (`crew.c`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

from backends.memory import Life, places, total
from backends.workload import Tensor

# TVM's numbers of the fields of DLTensor and of TVMFFIAny, of two types of arguments, and of the CPU.
DATA, SHAPE, STRIDES, SIDES, CODE, BITS, LANES, OFFSET, DEVICE, DEVICE_TYPE = range(1, 11)
TYPE, PADDING, VALUE = 13, 14, 15
NOTHING, POINTER, TENSOR = 0, 4, 7
CPU = 1
# Bytes: TVM puts smaller blocks on the stack, where they are aligned for one number and not for vectors.
LEAST_BLOCK = 1024


@dataclass(frozen=True)
class Call:
    """The compiled function `symbol` on tensors by name; it writes `result`, which is like `out`."""

    symbol: str
    arguments: tuple[str, ...]
    result: str
    out: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        """All tensors, the result last."""
        return (*self.arguments, self.result)


@dataclass(frozen=True)
class Sequence:
    """Calls in order. `images` and `weights` are handed in, the latter to be handed through as they are. `reshaped` tells
    of which tensor, and like what, each reshaped one is; `output` is the name of the result. `threads` are in its crew."""

    calls: tuple[Call, ...]
    images: Mapping[str, Tensor]
    weights: tuple[str, ...]
    reshaped: Mapping[str, tuple[str, Tensor]]
    output: str
    threads: int

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors but the weights, by name."""
        return {**self.images, **{call.result: call.out for call in self.calls},
                **{name: tensor for name, (_, tensor) in self.reshaped.items()}}

    def memory(self, name: str) -> str:
        """The tensor whose memory `name` is."""
        while name in self.reshaped:
            name, _ = self.reshaped[name]
        return name

    def lives(self) -> dict[str, Life]:
        """When each intermediate result is needed, in calls."""
        last = {self.memory(name): step for step, call in enumerate(self.calls) for name in call.names}
        return {call.result: Life(_bytes(call.out), step, last[call.result])
                for step, call in enumerate(self.calls) if call.result != self.memory(self.output)}


def function(sequence: Sequence):
    """The TIR function of (images, weights, the result)."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    with IRBuilder() as builder:
        with T.prim_func(is_private=True, s_tir=False):
            T.func_attr({"tirx.is_scheduled": True})
            images, weights, result = _given(sequence)
            with _leader(sequence.threads) as crew:
                values = _values(sequence, images, result) | {name: (POINTER, weight) for name, weight in weights.items()}
                arguments = T.Bind(T.tvm_stack_alloca("tvm_ffi_any", 1 + max(len(call.names) for call in sequence.calls)))
                for call in sequence.calls:
                    _call(call, arguments, [values[name] for name in call.names], crew)
    return builder.get()


def _given(sequence: Sequence) -> tuple[dict, dict, Any]:
    """The function's arguments: images and weights by name, and the result."""
    from tvm.tirx.script.builder import ir as T

    images = {name: T.arg(f"image{i}", T.buffer(tensor.memory, tensor.dtype))
              for i, (name, tensor) in enumerate(sequence.images.items())}
    weights = {name: T.arg(f"weight{i}", T.handle()) for i, name in enumerate(sequence.weights)}
    out = sequence.tensors[sequence.output]
    return images, weights, T.arg("result", T.buffer(out.memory, out.dtype))


@contextmanager
def _leader(threads: int) -> Iterator[Any]:
    """What is inside runs on the thread that leads a crew, whose address it gets; None on one thread."""
    from tvm.tirx.script.builder import ir as T

    if threads == 1:
        yield None
        return
    crew = T.Bind(T.call_extern("handle", "netwright_crew"))
    with T.parallel(0, threads) as number:
        with T.If(number == 0):
            with T.Then():
                T.evaluate(T.call_extern("void", "netwright_crew_lead", crew))
                yield crew
                _end(crew)
            with T.Else():
                T.evaluate(T.call_extern("void", "netwright_crew_help", crew))


def _end(crew) -> None:
    from tvm.tirx.script.builder import ir as T

    if crew is not None:
        T.evaluate(T.call_extern("void", "netwright_crew_end", crew))


def _values(sequence: Sequence, images: Mapping, result) -> dict:
    """What a call is given for each tensor that is no weight: its type and a pointer."""
    from tvm.tirx.script.builder import ir as T

    memory = {name: buffer.data for name, buffer in images.items()} | {sequence.memory(sequence.output): result.data}
    memory |= _planned(sequence.lives(), sequence.threads)
    described = [name for name in sequence.tensors if sequence.memory(name) in memory]
    arrays = T.Bind(T.tvm_stack_alloca("array", len(described)))
    for index, name in enumerate(described):
        _describe(arrays, index, sequence.tensors[name], memory[sequence.memory(name)])
    return {name: (TENSOR, T.tvm_struct_get(arrays, index, 0, "handle")) for index, name in enumerate(described)}


def _planned(lives: Mapping[str, Life], threads: int) -> dict:
    """Pointers to the places of intermediate results in one block."""
    from tvm.tirx.script.builder import ir as T

    placed = places(lives, threads)
    block = T.alloc_buffer((max(LEAST_BLOCK, total(placed, lives)),), "uint8", scope="global")
    return {name: T.handle_add_byte_offset(block.data, offset) for name, offset in placed.items()}


def _describe(arrays, index: int, tensor: Tensor, data) -> None:
    """Fills a DLTensor."""
    from tvm import DataType, tirx
    from tvm.tirx.script.builder import ir as T

    dtype = DataType(tensor.dtype)
    shape = T.alloc_buffer((len(tensor.memory),), "int64", scope="local")
    for axis, side in enumerate(tensor.memory):
        T.buffer_store(shape, tirx.const(side, "int64"), [axis])
    fields = {DATA: data, SHAPE: shape.data, STRIDES: T.reinterpret("handle", tirx.const(0, "uint64")), SIDES: len(tensor.memory),
              CODE: tirx.const(dtype.type_code, "uint8"), BITS: tirx.const(dtype.bits, "uint8"),
              LANES: tirx.const(1, "uint16"), OFFSET: tirx.const(0, "uint64"), DEVICE: 0, DEVICE_TYPE: CPU}
    for kind, value in fields.items():
        T.evaluate(T.tvm_struct_set(arrays, index, kind, value))


def _call(call: Call, arguments, values: list, crew) -> None:
    """Calls a function by its address; where it fails, the sequence ends with its error."""
    from tvm import tirx
    from tvm.tirx.script.builder import ir as T

    for index, (kind, value) in enumerate([*values, (NOTHING, tirx.const(0, "int64"))]):
        for number, content in ((TYPE, kind), (PADDING, 0), (VALUE, value)):
            T.evaluate(T.tvm_struct_set(arguments, index, number, content))
    result = T.tvm_struct_get(arguments, len(values), 0, "handle")
    nothing = T.reinterpret("handle", tirx.const(0, "uint64"))
    failed = T.call_extern("int32", f"__tvm_ffi_{call.symbol}", nothing, arguments, len(values), result)
    with T.If(failed != 0), T.Then():
        _end(crew)
        T.evaluate(T.tvm_throw_last_error())


def _bytes(tensor: Tensor) -> int:
    from tvm import DataType

    return prod(tensor.memory) * DataType(tensor.dtype).bits // 8
