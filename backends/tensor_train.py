"""Weights as a tensor train: multiplied out when they are loaded, or a layer computed core by core.

A layer's inputs are numbered (i_1, ..., i_d), its outputs (j_1, ..., j_d). The last core turns i_d into j_d and the rank r,
then the core before it (i_(d-1), r) into j_(d-1) and its own rank, and so on (Novikov et al., 2015 [49], section 3.2). Each
is a product: what lies in front, the i still to come, are rows of pixels, the j already there columns.
"""

from dataclasses import dataclass

from backends.arithmetic import FLOAT
from backends.channels import blocks_of
from backends.emit import clamp, constant, load, loop, scratch, store
from backends.nest import shared
from backends.packing import arranged
from backends.product import product, product_options, threads_for
from backends.view import View, sides
from backends.window import Window
from backends.workload import CHANNELS_LAST, Lowering, Packed, Tensor


@dataclass(frozen=True)
class Core:
    """Core [left, outputs, inputs, right], which begins `start` numbers in."""

    left: int
    outputs: int
    inputs: int
    right: int
    start: int

    @property
    def size(self) -> int:
        """Numbers of the core."""
        return self.left * self.outputs * self.inputs * self.right


def cores_of(unpack) -> list[Core]:
    """The cores of an `unpack_tensor_train` workload, first to last."""
    ends, cores, start = (1, *unpack["ranks"], 1), [], 0
    for k, (m, n) in enumerate(zip(unpack["outputs"], unpack["inputs"])):
        cores.append(Core(ends[k], m, n, ends[k + 1], start))
        start += cores[-1].size
    return cores


def unpack_train(workload) -> Lowering:
    """Multiplies the cores out, first to last: [outputs, inputs, rank] grows by one core at a time."""
    first, *others = cores_of(workload)

    def body(buffers, sink):
        source, begin, outputs, inputs = buffers["cores"], first.start, first.outputs, first.inputs
        for core in others:
            size = outputs * core.outputs * inputs * core.inputs * core.right
            to = sink.out.buffer if core is others[-1] else scratch(size, "float32")
            _append(source, begin, outputs, inputs, core, buffers["cores"], to)
            source, begin, outputs, inputs = to, 0, outputs * core.outputs, inputs * core.inputs
    return Lowering(body)


def _append(source, begin, outputs: int, inputs: int, core: Core, cores, to) -> None:
    """to[(j, m), (i, n), s] = sum over r of source[j, i, r] core[r, m, n, s]."""
    total = scratch(1, "float32", registers=True)
    with loop(outputs) as j, loop(core.outputs) as m, loop(inputs) as i, loop(core.inputs) as n, loop(core.right) as s:
        store(total, constant(0.0, "float32"), 0)
        with loop(core.left) as r:
            factor = load(cores, core.start + ((r * core.outputs + m) * core.inputs + n) * core.right + s)
            store(total, load(total, 0) + load(source, begin + (j * inputs + i) * core.left + r) * factor, 0)
        column = ((j * core.outputs + m) * inputs + i) * core.inputs + n
        store(to, load(total, 0), column * core.right + s)


def serves_train(workload) -> bool:
    """Dense layers and 1x1 convolutions, not grouped, whose pixels follow each other in memory."""
    x, window = workload["x"], Window.of(workload)
    return window.plain and window.groups == 1 and (x.layout == CHANNELS_LAST or x.memory[2:] in ((), (1, 1)))


@dataclass(frozen=True)
class _Stage:
    """The product with one core: `window` has what is still to come as rows and the `done` outputs as columns."""

    core: Core
    window: Window
    done: int

    @property
    def name(self) -> str:
        """The name of the packed core."""
        return f"core{self.core.start}"

    def packed(self, cores: Tensor, lanes: int, option: dict) -> Packed:
        """The core as a matrix of (rank, outputs) by (inputs, rank): it lies so."""
        outputs, inputs = self.window.outputs, self.window.inputs
        blocks = blocks_of(outputs, lanes, option["vectors"])
        return arranged(Tensor((outputs, inputs), "float32"), {"weight.cores": cores}, "float32", blocks, 1, 1,
                        lambda stored, o, tap, c: load(stored, self.core.start + o * inputs + c))

    def view(self, buffer) -> View:
        """Inputs [rows, (inputs, rank), columns]."""
        return View(buffer, 0, 0, self.window.inputs * self.done, 1, self.done)


def _stages(workload) -> list[_Stage]:
    """Last core first."""
    batch, inputs, height, width = sides(workload["x"])
    rows, done, stages = batch * height * width * inputs, 1, []
    for core in reversed(cores_of(workload.unpack)):
        rows //= core.inputs
        window = Window(1, core.inputs * core.right, core.left * core.outputs, (rows, done), (1, 1), (1, 1), (0, 0), (1, 1),
                        (rows, done), 1)
        stages.append(_Stage(core, window, done))
        done *= core.outputs
    return stages


def train(workload, target) -> Lowering:
    """The layer of (x, cores, bias)."""
    stages = _stages(workload)
    options = [product_options(stage.window, target, FLOAT, 1)[0] for stage in stages]
    packed = {stage.name: stage.packed(workload["weight.cores"], target.lanes, option)
              for stage, option in zip(stages, options)}

    def body(buffers, sink):
        source = buffers["x"]
        for stage, option in zip(stages, options):
            last = stage is stages[-1]
            result = None if last else scratch(stage.window.out[0] * stage.window.outputs * stage.done, "float32")
            finish = _to_sink(workload, buffers, sink, stage) if last else _to_memory(result, stage)
            with shared(threads_for(stage.window, target, FLOAT)) as share:
                product(stage.window, FLOAT, target.lanes, share, option, stage.view(source), buffers[stage.name], 0, 0, finish)
            source = result
    return Lowering(body, packed)


def _to_memory(buffer, stage: _Stage):
    """Results [rows, (rank, outputs), columns]."""
    def finish(sums, y, x, c, lanes):
        store(buffer, sums, (y * stage.window.outputs + c) * stage.done + x, lanes, stage.done)
    return finish


def _to_sink(workload, buffers, sink, stage: _Stage):
    """Rows are pixels; channel c of column x is the output c * columns + x."""
    results = sink.flat().split(stage.done)

    def finish(sums, y, x, c, lanes):
        bias = load(buffers["bias"], c * stage.done + x, lanes, stage.done)
        value = clamp(sums + bias, workload["low"], workload["high"], "float32", lanes)
        results.put(value, 0, y, x, c, lanes)
    return finish
