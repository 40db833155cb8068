"""From an exported network to one shared library of code: every op through a kernel file, no weights inside.

`torch.export` -> groups of ops, each a call of one finished TIR function -> `relax.build` -> one library
with these functions:

- `main(image, stored tensors...)` -> logits is split by TVM's LiftTransformParams into
  `main_transform_params` (unpacks and packs the stored tensors, once) and `main` (one inference);
- `op_<name>` runs one group on its own, so that it can be verified.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from backends.fusion import Group, groups_of
from backends.graph import read
from backends.lowering import algorithm_named, kernel
from backends.store import Store, Trial, default_path
from backends.target import Target
from backends.tune import best
from backends.workload import Lowering, Tensor, Workload


@dataclass(frozen=True)
class OpReport:
    """Which kernel serves a workload of the graph; `node` names the group's result. `us`: the kernel alone, measured
    without the steps fused to it."""

    node: str
    op: str
    algorithm: str
    option: dict
    us: float
    workload: str


@dataclass(frozen=True)
class CompileReport:
    """What was compiled: `parameters` are the stored tensors in the order in which the library takes them."""

    ops: tuple[OpReport, ...]
    parameters: tuple[str, ...]
    seconds: float


def compile_program(program, target: Target, library: Path, store: Path | None = None,
                    retune: bool = False) -> CompileReport:
    """Compiles a `torch.export.ExportedProgram` to the shared library `library`, with the fastest kernels known to the
    kernel store at `store` (`store.default_path()` if None); what it does not know, or all with `retune`, is measured.

    CompileError names an op that no kernel serves. Weights are arguments of the library's functions.
    """
    from tvm import relax

    begin = time.perf_counter()
    graph = read(program)
    groups = groups_of(graph)
    builder = _Builder(target, Store(store or default_path(), target), retune)
    module = builder.module(graph, groups)
    relax.build(module, target.tvm(), relax_pipeline=_passes()).export_library(str(library))
    signature = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers
    order = tuple(signature[name] for name in graph.stored)
    return CompileReport(tuple(builder.reports), order, time.perf_counter() - begin)


def _passes():
    """Relax to calls of finished functions in planned memory. Nothing is legalised or fused: every op already
    is a call of its kernel, or a reshape, which the virtual machine does without a copy."""
    from tvm import relax, transform

    names = ("ToNonDataflow", "RemovePurityChecking", "CallTIRRewrite", "StaticPlanBlockMemory", "LowerAllocTensor",
             "KillAfterLastUse", "LowerRuntimeBuiltin", "ComputePrimValue", "VMShapeLower", "AttachGlobalSymbol")
    return transform.Sequential([getattr(relax.transform, name)() for name in names])


class _Builder:
    """Builds the Relax module; equal workloads share one function."""

    def __init__(self, target: Target, store: Store, retune: bool):
        self.target, self.store, self.retune = target, store, retune
        self.reports: list[OpReport] = []
        self._lowered: dict[Workload, tuple[Trial, Lowering]] = {}
        self._kernels: dict[tuple, object] = {}

    def module(self, graph, groups: list[Group]):
        """`main`, its weights' part split off, and a function for each group alone."""
        from tvm import relax

        builder = relax.BlockBuilder()
        named = {name: relax.Var(name, _type(tensor)) for name, tensor in {**graph.inputs, **graph.stored}.items()}
        types = {**graph.inputs, **graph.stored, **{group.name: group.out for group in groups}}
        with builder.function("main", list(named.values()), attrs={"num_input": len(graph.inputs)}):
            with builder.dataflow():
                for group in groups:
                    named[group.name] = self._emit(builder, group, named)
                    self._report(group)
                out = builder.emit_output(named[graph.output])
            builder.emit_func_output(out)
        module = relax.transform.LiftTransformParams()(builder.get())
        builder = relax.BlockBuilder(module)
        for group in groups:
            if group.parts:
                self._single(builder, group, types)
        return builder.get()

    def _single(self, builder, group: Group, types: dict[str, Tensor]) -> None:
        from tvm import relax

        inputs = {name: relax.Var(name, _type(types[name])) for name in inputs_of(group)}
        with builder.function(f"op_{group.name}", list(inputs.values())):
            with builder.dataflow():
                out = builder.emit_output(self._emit(builder, group, inputs))
            builder.emit_func_output(out)

    def _emit(self, builder, group: Group, named: dict[str, object]):
        """The Relax variable of a group's result: its kernel called on its inputs, weights packed first."""
        from tvm import relax

        if not group.parts:
            return builder.emit(relax.op.reshape(named[group.source], group.out.memory))
        parts = [(part, self._lower(part.workload)[1]) for part in group.parts]
        arguments = [argument for part, lowering in parts for argument in _packed(builder, part, lowering, named)]
        key = (tuple((part.workload, part.channel) for part, _ in parts), group.out)
        if key not in self._kernels:
            self._kernels[key] = kernel([(part.workload, lowering, part.channel) for part, lowering in parts], group.out)
        function = builder.add_func(self._kernels[key], group.parts[0].workload.op)
        return builder.emit(relax.call_tir(function, tuple(arguments), _type(group.out)))

    def _lower(self, workload: Workload) -> tuple[Trial, Lowering]:
        if workload not in self._lowered:
            trial = best(workload, self.target, self.store, self.retune)
            algorithm = algorithm_named(workload.op, trial.algorithm)
            self._lowered[workload] = trial, algorithm.lower(workload, self.target, trial.option)
        return self._lowered[workload]

    def _report(self, group: Group) -> None:
        for part in group.parts:
            trial, _ = self._lower(part.workload)
            self.reports.append(OpReport(group.name, part.workload.op, trial.algorithm, trial.option, trial.us,
                                         str(part.workload)))


def inputs_of(group: Group) -> list[str]:
    """The names of all that a group reads, once each, in order."""
    return list(dict.fromkeys(name for part in group.parts for name in part.inputs))


def _packed(builder, part, lowering: Lowering, named: dict[str, object]) -> list:
    """The arguments of a part's kernel; packing calls are emitted."""
    from tvm import relax

    arguments = []
    for (name, _), source in zip(part.workload.inputs, part.inputs):
        value = named[source]
        if name in lowering.packed:
            packed = lowering.packed[name]
            function = builder.add_func(packed.function, f"pack_{part.workload.op}")
            value = builder.emit(relax.call_tir(function, (value,), _type(packed.tensor)))
        arguments.append(value)
    return arguments


def _type(tensor: Tensor):
    from tvm import relax

    return relax.TensorType(tensor.memory, tensor.dtype)
