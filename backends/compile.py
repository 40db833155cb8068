"""From an exported network to one shared library of code: every op through a kernel file, no weights inside.

`torch.export` -> Relax, in which each op is a call of a finished TIR function -> `relax.build` -> one
library with these functions:

- `main(image, stored tensors...)` -> logits is split by TVM's LiftTransformParams into
  `main_transform_params` (unpacks and packs the stored tensors, once) and `main` (one inference);
- `op_<node>` runs one op of the graph on its own, so that it can be verified.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from backends.lowering import lower, ops
from backends.target import Target
from backends.workload import CompileError, Lowering, Tensor, Workload


@dataclass(frozen=True)
class OpReport:
    """Which kernel serves a node of the graph."""

    node: str
    op: str
    algorithm: str
    option: dict
    workload: str


@dataclass(frozen=True)
class CompileReport:
    """What was compiled: `parameters` are the stored tensors in the order in which the library takes them."""

    ops: tuple[OpReport, ...]
    parameters: tuple[str, ...]
    seconds: float


def compile_program(program, target: Target, library: Path) -> CompileReport:
    """Compiles a `torch.export.ExportedProgram` to the shared library `library`.

    CompileError names an op that no kernel serves. Weights are arguments of the library's functions.
    """
    from tvm import relax

    begin = time.perf_counter()
    emitter = _Emitter(target)
    module = _translate(program, emitter)
    module = relax.transform.LiftTransformParams()(module)
    module = emitter.with_single_ops(module)
    relax.build(module, target.tvm(), relax_pipeline=_passes()).export_library(str(library))
    order = tuple(program.graph_signature.inputs_to_parameters.values())
    return CompileReport(tuple(emitter.reports), order, time.perf_counter() - begin)


def _passes():
    """Relax to calls of finished functions in planned memory. Nothing is legalised or fused: every op already
    is a call of its kernel, or a reshape, which the virtual machine does without a copy."""
    from tvm import relax, transform

    names = ("ToNonDataflow", "RemovePurityChecking", "CallTIRRewrite", "StaticPlanBlockMemory", "LowerAllocTensor",
             "KillAfterLastUse", "LowerRuntimeBuiltin", "ComputePrimValue", "VMShapeLower", "AttachGlobalSymbol")
    return transform.Sequential([getattr(relax.transform, name)() for name in names])


def _translate(program, emitter: "_Emitter"):
    """The Relax module of the program, with every op that has kernels emitted by `emitter`."""
    from tvm.relax.frontend import detach_params
    from tvm.relax.frontend.torch import from_exported_program

    nodes = {node.target.__name__ for node in program.graph.nodes if node.op == "call_function"}
    known = set(ops())
    converters = {name: emitter.convert if name.split(".")[0] in known else _reshape for name in nodes}
    unknown = {name.split(".")[0] for name in nodes} - known - _FREE
    if unknown:
        raise CompileError(f"no kernels for op {', '.join(sorted(unknown))}; backends/kernels has {', '.join(ops())}")
    module = from_exported_program(program, keep_params_as_input=True, unwrap_unit_return_tuple=True,
                                   custom_convert_map=converters, run_ep_decomposition=False)
    return detach_params(module)[0]


# Ops that only rename memory.
_FREE = {"flatten", "view", "reshape"}


def _reshape(node, importer):
    from tvm import relax

    x = importer.env[node.all_input_nodes[0]]
    return importer.block_builder.emit(relax.op.reshape(x, _tensor(node).shape))


class _Emitter:
    """Emits a call of its kernel for each op node; equal workloads share one function."""

    def __init__(self, target: Target):
        self.target = target
        self.reports: list[OpReport] = []
        self.singles: list[tuple[str, Workload, Lowering]] = []
        self._lowered: dict[Workload, tuple[str, dict, Lowering]] = {}

    def convert(self, node, importer):
        """The Relax variable of an op node: its kernel called on its inputs, weights packed first."""
        workload, inputs = _workload(node)
        algorithm, option, lowering = self._lower(workload)
        self.reports.append(OpReport(node.name, workload.op, algorithm, option, str(workload)))
        self.singles.append((node.name, workload, lowering))
        builder = importer.block_builder
        return builder.emit(_call(builder, workload, lowering, [importer.env[i] for i in inputs], builder.emit))

    def _lower(self, workload: Workload):
        if workload not in self._lowered:
            self._lowered[workload] = lower(workload, self.target)
        return self._lowered[workload]

    def with_single_ops(self, module):
        """The module with a function `op_<node>` for each op, of the op's tensors as the graph has them."""
        from tvm import relax

        builder = relax.BlockBuilder(module)
        for node, workload, lowering in self.singles:
            arguments = [relax.Var(name, relax.TensorType(t.shape, t.dtype)) for name, t in workload.tensors]
            with builder.function(f"op_{node}", arguments):
                with builder.dataflow():
                    out = builder.emit_output(_call(builder, workload, lowering, arguments, builder.emit))
                builder.emit_func_output(out)
        return builder.get()


def _call(builder, workload: Workload, lowering: Lowering, inputs: list, emit):
    """A Relax call of the kernel; packing calls are emitted before it."""
    from tvm import relax

    arguments = []
    for (name, _), value in zip(workload.tensors, inputs):
        if name in lowering.packed:
            packed = lowering.packed[name]
            function = builder.add_func(packed.function, f"pack_{workload.op}")
            value = emit(relax.call_tir(function, (value,), _type(packed.tensor)))
        arguments.append(value)
    function = builder.add_func(lowering.kernel, workload.op)
    return relax.call_tir(function, tuple(arguments), _type(workload.out))


def _type(tensor: Tensor):
    from tvm import relax

    return relax.TensorType(tensor.shape, tensor.dtype)


def _workload(node) -> tuple[Workload, list]:
    """The workload of a call_function node, and the nodes of its tensor inputs in order."""
    names = [argument.name for argument in node.target._schema.arguments]
    values = {**dict(zip(names, node.args)), **node.kwargs}
    tensors, arguments, inputs = [], [], []
    for name, value in values.items():
        listed = value if isinstance(value, list | tuple) else [value]
        if listed and all(hasattr(item, "meta") for item in listed):
            tensors += [(name if item is value else f"{name}{i}", _tensor(item)) for i, item in enumerate(listed)]
            inputs += listed
        else:
            arguments.append((name, tuple(value) if isinstance(value, list) else value))
    op = node.target.__name__.split(".")[0]
    return Workload(op, tuple(tensors), tuple(arguments), _tensor(node)), inputs


def _tensor(node) -> Tensor:
    value = node.meta["val"]
    return Tensor(tuple(int(side) for side in value.shape), str(value.dtype).removeprefix("torch."))
