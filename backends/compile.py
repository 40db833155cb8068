"""From an exported network to one shared library of code: every op through a kernel file, no weights inside.

`torch.export` -> groups of ops, each a call of one compiled function (`backends.objects`) -> `relax.build` -> one
library, linked, with these functions:

- `main(image, stored tensors...)` -> logits is split by TVM's LiftTransformParams into
  `main_transform_params` (unpacks and packs the stored tensors, once) and `main` (one inference);
- `op_<name>` runs one group on its own, so that it can be verified.
"""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from backends.fallback import emit_fallback
from backends.fusion import Group, computed_once, groups_of, inputs_of
from backends.graph import Graph, Joint, read
from backends.joining import joints, with_joined
from backends.lowering import algorithm_named, arguments_of, choices, kernel, served_on, sources_of
from backends.objects import Objects
from backends.report import FALLBACK, OpReport, report_on, unserved
from backends.sequence import Call, Sequence, function
from backends.store import Store, Trial, default_path
from backends.target import Target
from backends.tune import bare, best
from backends.unpacking import UNPACK
from backends.workload import CompileError, Lowering, Tensor, Workload

CREW = Path(__file__).with_name("crew.c")
# A crew is gathered in about a microsecond.
WORTH_A_CREW_US = 10


@dataclass(frozen=True)
class CompileReport:
    """What was compiled: `parameters` are the stored tensors in the order in which the library takes them; `joined` are the layers
    that do the op before them as well: unpack their weights, or gate their image. `seconds`: all of it; `tune_seconds`:
    measuring what the store did not know; `kernels_built`: functions that the store had no code of."""

    ops: tuple[OpReport, ...]
    parameters: tuple[str, ...]
    joined: tuple[str, ...]
    seconds: float
    tune_seconds: float
    kernels_built: int

    @property
    def fallback(self) -> int:
        """Ops that no kernel file serves."""
        return sum(op.algorithm == FALLBACK for op in self.ops)

    @property
    def layout_changes(self) -> int:
        """Copies at each inference that only change the layout."""
        return sum(op.op == "clone" and not op.once for op in self.ops)


def compile_program(program, target: Target, library: Path, store: Path | None = None,
                    retune: bool = False) -> CompileReport:
    """Compiles a `torch.export.ExportedProgram` to the shared library `library`, with the fastest kernels known to the
    kernel store at `store` (`store.default_path()` if None); what it does not know, or all with `retune`, is measured.

    CompileError names an op that no kernel serves. Weights are arguments of the library's functions.
    """
    from tvm import relax

    begin = time.perf_counter()
    graph = read(program, served_on(target))
    with closing(Store(store or default_path(), target)) as kernels, TemporaryDirectory(prefix="netwright-") as folder:
        builder = _Builder(target, kernels, retune)
        joined = builder.joined(graph)
        module = builder.module(with_joined(graph, joined))
        objects = builder.objects.files(Path(folder))
        relax.build(module, target.tvm(), relax_pipeline=_passes()).export_library(str(library), addons=objects)
    signature = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers
    order = tuple(signature[name] for name in graph.stored)
    return CompileReport(tuple(builder.reports), order, joined, time.perf_counter() - begin, builder.tune_seconds,
                         builder.objects.built)


def _passes():
    """Relax to calls of compiled functions in planned memory. Nothing is legalised or fused: every op already
    is a call of its kernel, or a reshape, which the virtual machine does without a copy."""
    from tvm import relax, transform

    names = ("ToNonDataflow", "RemovePurityChecking", "CallTIRRewrite", "StaticPlanBlockMemory", "LowerAllocTensor",
             "KillAfterLastUse", "LowerRuntimeBuiltin", "ComputePrimValue", "VMShapeLower", "AttachGlobalSymbol")
    return transform.Sequential([getattr(relax.transform, name)() for name in names])


class _Builder:
    """Builds the Relax module, whose ops are calls of functions by their symbols."""

    def __init__(self, target: Target, store: Store, retune: bool):
        self.target, self.store, self.retune = target, store, retune
        self.roofline = store.roofline()
        self.objects = Objects(target, store, retune)
        self.reports: list[OpReport] = []
        self._once: set[str] = set()
        self._unpacked: set[str] = set()
        self._retuned: set[Workload] = set()
        self.tune_seconds = 0.0
        self._lowered: dict[Workload, tuple[Trial, Lowering]] = {}

    def joined(self, graph: Graph) -> tuple[str, ...]:
        """The layers that are faster with the op before them in their kernel."""
        return tuple(name for name, joint in joints(graph).items() if self._pays(joint))

    def _pays(self, joint: Joint) -> bool:
        """Whether some kernel does what both do, and faster than one after the other."""
        if not choices(joint.workload, self.target):
            return False
        try:
            return self._trial(joint.workload).us < sum(self._trial(part).us for part in joint.parts)
        except CompileError:  # every kernel miscomputes
            return False

    def module(self, graph: Graph):
        """`main`, its weights' part split off, and a function for each group alone."""
        from tvm import relax

        groups = groups_of(graph)
        self._once = computed_once(groups, graph)
        for group in groups:
            self._report(group)
        module = relax.transform.LiftTransformParams()(self._main(graph, groups))
        builder = relax.BlockBuilder(module)
        types = {**graph.inputs, **graph.stored, **{group.name: group.out for group in groups}}
        for group in groups:
            if group.parts:
                self._single(builder, group, types)
        return builder.get()

    def _main(self, graph: Graph, groups: list[Group]):
        """The module of `main`, whose kernels are called in a row by one function, unless some op has no kernel."""
        from tvm import relax

        builder = relax.BlockBuilder()
        named = {name: relax.Var(name, _type(tensor)) for name, tensor in {**graph.inputs, **graph.stored}.items()}
        each_time = [group for group in groups if group.name not in self._once]
        in_a_row = _is_computed(graph.output, each_time) and not any(group.unserved for group in each_time)
        with builder.function("main", list(named.values()), attrs={"num_input": len(graph.inputs)}):
            with builder.dataflow():
                for group in groups:
                    if group.name in self._once or not in_a_row:
                        self._emit(builder, group, named)
                if in_a_row:
                    self._emit_in_a_row(builder, each_time, graph, named)
                out = builder.emit_output(named[graph.output])
            builder.emit_func_output(out)
        return builder.get()

    def _single(self, builder, group: Group, types: dict[str, Tensor]) -> None:
        from tvm import relax

        named = {name: relax.Var(name, _type(types[name])) for name in inputs_of(group)}
        with builder.function(f"op_{group.name}", list(named.values())):
            with builder.dataflow():
                self._emit(builder, group, named)
                out = builder.emit_output(named[group.name])
            builder.emit_func_output(out)

    def _emit(self, builder, group: Group, named: dict[str, object]) -> None:
        """Names the Relax variable of a group's result: its kernel called on its inputs, weights packed first."""
        from tvm import relax

        if not group.parts:
            named[group.name] = builder.emit(relax.op.reshape(named[group.source], group.out.memory))
        elif group.unserved:
            named[group.name] = emit_fallback(builder, group.unserved, [named[name] for name in inputs_of(group)])
        else:
            for call in self._calls(group):
                _emit_call(builder, call, named)

    def _emit_in_a_row(self, builder, groups: list[Group], graph: Graph, named: dict[str, object]) -> None:
        """Names the variable of the network's result: one function that calls all kernels; what is packed once is
        packed before."""
        calls = dict.fromkeys(call for group in groups if group.parts for call in self._calls(group))
        for call in [call for call in calls if self._once.issuperset(call.arguments)]:
            _emit_call(builder, call, named)
            del calls[call]
        weights = dict.fromkeys(name for call in calls for name in call.arguments if name in named and name not in graph.inputs)
        reshaped = {group.name: (group.source, group.out) for group in groups if not group.parts}
        sequence = Sequence(tuple(calls), graph.inputs, tuple(weights), reshaped, graph.output, self._crew(groups))
        symbol = self.objects.symbol("network", repr(sequence), lambda: function(sequence))
        _emit_call(builder, Call(symbol, (*graph.inputs, *weights), graph.output, sequence.tensors[graph.output]), named)

    def _crew(self, groups: list[Group]) -> int:
        """The threads of the network's crew: one if gathering them would take longer than they can save."""
        alone_us = sum(self._lower(part.workload)[0].us for group in groups for part in group.parts)
        if self.target.threads == 1 or alone_us < WORTH_A_CREW_US:
            return 1
        self.objects.add_c(CREW)
        return self.target.threads

    def _calls(self, group: Group) -> list[Call]:
        """Calls that pack, then that of the group's kernel."""
        packing, names = [], []
        for part in group.parts:
            given, lowering = dict(zip((name for name, _ in part.workload.inputs), part.inputs)), self._lower(part.workload)[1]
            for name in arguments_of(part.workload, lowering):
                if name in lowering.packed:
                    packing.append(self._packing(lowering.packed[name], [given[source] for source in sources_of(name, lowering)]))
                names.append(packing[-1].result if name in lowering.packed else given[name])
        return [*packing, Call(self._symbol(group), tuple(names), group.name, group.out)]

    def _packing(self, packed, sources: list[str]) -> Call:
        symbol = self.objects.symbol("pack", packed.key, lambda: packed.function)
        return Call(symbol, tuple(sources), f"{symbol} of {', '.join(sources)}", packed.tensor)

    def _symbol(self, group: Group) -> str:
        """The group's kernel."""
        lowered = [(part, *self._lower(part.workload)) for part in group.parts]
        depends = [(part.workload, part.channel, trial.algorithm, trial.option) for part, trial, _ in lowered]
        parts = [(part.workload, lowering, part.channel) for part, _, lowering in lowered]
        return self.objects.symbol(group.parts[0].workload.op, repr((depends, group.out)), lambda: kernel(parts, group.out))

    def _lower(self, workload: Workload) -> tuple[Trial, Lowering]:
        if workload not in self._lowered:
            trial = self._trial(workload)
            algorithm = algorithm_named(workload.op, trial.algorithm)
            self._lowered[workload] = trial, algorithm.lower(workload, self.target, trial.option)
        return self._lowered[workload]

    def _trial(self, workload: Workload) -> Trial:
        """The fastest option, measured now if the store does not know it."""
        begin = time.perf_counter()
        fresh = self.retune and bare(workload) not in self._retuned
        trial = best(workload, self.target, self.store, fresh)
        self._retuned.add(bare(workload))
        self.tune_seconds += time.perf_counter() - begin
        return trial

    def _report(self, group: Group) -> None:
        if group.unserved:
            self.reports.append(unserved(group))
            return
        for part in group.parts:
            trial, _ = self._lower(part.workload)
            weights = "packed" if part.workload.unpack else "unpacked" if self._unpacked & set(part.inputs) else ""
            self.reports.append(report_on(group, part.workload, trial, self.roofline, group.name in self._once, weights))
            self._unpacked |= {group.name} if part.workload.op.startswith(UNPACK) else set()


def _is_computed(name: str, groups: list[Group]) -> bool:
    """Whether the tensor is what a kernel of these groups writes, or that reshaped."""
    by_name = {group.name: group for group in groups}
    while name in by_name and not by_name[name].parts:
        name = by_name[name].source
    return name in by_name


def _emit_call(builder, call: Call, named: dict[str, object]) -> None:
    """Names the variable of a call's result."""
    from tvm import relax

    arguments = tuple(named[name] for name in call.arguments)
    named[call.result] = builder.emit(relax.call_dps_packed(call.symbol, arguments, _type(call.out)))


def _type(tensor: Tensor):
    from tvm import relax

    return relax.TensorType(tensor.memory, tensor.dtype)
