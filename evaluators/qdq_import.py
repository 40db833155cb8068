"""A quantised ONNX graph (QDQ form, as ONNX Runtime's quantiser and NNCF write it) as calls of deployed integer ops.

In QDQ form every integer tensor is spelled as DequantizeLinear(QuantizeLinear(x)) around operators in float. A
convolution or dense layer whose inputs and weights are dequantised becomes an integer layer that gives what the quantiser
after it wants; sums, products, concatenations and pools likewise become `int8_add`, `int8_mul`, `int8_rescale` and
`int8_avg_pool2d`, and activations tables of 256 numbers. What has no integer form is computed in float between
`dequantize` and `quantize`. Activations of int8 become uint8, whose numbers and zero points are 128 higher.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

import spaces.ops
from evaluators.onnx_import import CALLS, OnnxNode, Step, float_step
from spaces.integer import integer_form
from spaces.ops import int8_add, int8_avg_pool2d, int8_mul, int8_rescale, quantize
from spaces.prepared import Affine
from spaces.requantise import clamp_steps

UNARY = {"Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh"}
CLAMPS = {"Relu", "Clip"}
LAYERS = {"Conv", "Gemm", "MatMul"}
MEANS = {"ReduceMean", "GlobalAveragePool", "AveragePool"}
SAME_NUMBERS = {"MaxPool", "Reshape", "Flatten", "Squeeze", "Identity", "Dropout"}
ANY = (-math.inf, math.inf)
EVERY = torch.arange(256, dtype=torch.uint8)


def integer_steps(nodes: list[OnnxNode], constants: dict[str, np.ndarray], output: str) -> tuple[list[Step], dict]:
    """The steps and constants of a graph; one without quantised tensors stays in float. ValueError names what is not
    covered."""
    spaces.ops.register_all()
    _check_ends(nodes, constants, output)
    nodes = _typed_before_moves(nodes)
    importer = _Importer(nodes, dict(constants), output)
    for node in nodes:
        if node.output not in importer.done:
            importer.add(node)
    return importer.needed()


def _check_ends(nodes: list[OnnxNode], constants: dict[str, np.ndarray], output: str) -> None:
    """ValueError if the graph takes or gives int8 itself, which inside it are uint8."""
    made = {*constants, *(node.output for node in nodes)}
    for node in nodes:
        ends = (node.op == "DequantizeLinear" and node.inputs[0] not in made
                or node.op == "QuantizeLinear" and node.output == output)
        if ends and constants[node.inputs[2]].dtype == np.int8:
            raise ValueError(f"node {node.name!r}: the network's own input or output is int8; leave it float, or quantise it to uint8")


def _typed_before_moves(nodes: list[OnnxNode]) -> list[OnnxNode]:
    """The graph, in which what is quantised after its numbers were moved or chosen is quantised before that too, to the same
    type: the result is the same, and the op that made the numbers gives integers."""
    made_by, readers, found = {node.output: node.op for node in nodes}, _readers(nodes), []
    for node in reversed(nodes):
        reader, *others = readers.get(node.output, [None])
        source, real = node.inputs[0], f"{node.inputs[0]}.typed"
        if (others or reader is None or reader.op != "QuantizeLinear" or node.op not in SAME_NUMBERS
                or made_by.get(source, "DequantizeLinear") == "DequantizeLinear"):
            found.append(node)
            continue
        steps = OnnxNode("QuantizeLinear", "", (source, *reader.inputs[1:]), f"{source}.steps", {})
        typed = OnnxNode("DequantizeLinear", "", (steps.output, *reader.inputs[1:]), real, {})
        found += [replace(node, inputs=(real, *node.inputs[1:])), typed, steps]
        readers[source] = [steps if other is node else other for other in readers[source]]
    return found[::-1]


def _readers(nodes: list[OnnxNode]) -> dict[str, list[OnnxNode]]:
    """What reads each tensor."""
    readers: dict[str, list[OnnxNode]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    return readers


@dataclass(frozen=True)
class _Wanted:
    """What reads a result alone: the uint8 tensor `name` of type `affine`, after a clamp in real numbers; `passed` are the
    results of the nodes between."""

    name: str
    affine: Affine
    bounds: tuple[float, float]
    passed: tuple[str, ...]


@dataclass(frozen=True)
class _Stored:
    """A quantised constant: steps, one scale and zero point or one along `axis`."""

    steps: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int

    def real(self) -> np.ndarray:
        """What it stands for, float32."""
        sides = [-1 if i == self.axis % self.steps.ndim else 1 for i in range(self.steps.ndim)]
        scale, zero = (v.reshape(sides) if v.size > 1 else v.reshape(()) for v in (self.scale, self.zero_point))
        return ((self.steps.astype(np.int64) - zero) * scale.astype(np.float64)).astype(np.float32)

    def symmetric(self, name: str, output_axis: int) -> tuple[torch.Tensor, torch.Tensor]:
        """int8 steps with the outputs first, and the scale of each output, float64. ValueError if they are not int8 about
        zero, or scaled along another axis."""
        steps, zero = self.steps.astype(np.int16), np.unique(self.zero_point)
        if self.steps.dtype == np.uint8 and zero.tolist() == [128]:
            steps, zero = steps - 128, np.zeros(1)
        if np.abs(steps).max() > 127 and steps.min() < -128 or zero.tolist() != [0]:
            raise ValueError(f"weights {name} are not symmetric about zero; quantise them to int8, symmetric")
        if self.scale.size > 1 and self.axis % self.steps.ndim != output_axis:
            raise ValueError(f"weights {name} have scales along axis {self.axis}; quantise them by output channel")
        steps = torch.from_numpy(np.ascontiguousarray(np.moveaxis(steps, output_axis, 0))).to(torch.int8)
        scale = torch.from_numpy(self.scale.astype(np.float64).reshape(-1))
        return steps, scale.expand(len(steps)) if self.scale.size == 1 else scale


class _Importer:
    """Walks the nodes in their order; `typed` are dequantised activations: the uint8 tensor's name, its type and shape rank."""

    def __init__(self, nodes: list[OnnxNode], constants: dict, output: str):
        self.nodes, self.constants, self.output = nodes, constants, output
        self.readers = _readers(nodes)
        self.steps: list[Step] = []
        self.typed: dict[str, tuple[str, Affine]] = {}
        self.weights: dict[str, _Stored] = {}
        self.tables: dict[str, tuple[str, torch.Tensor]] = {}
        self.done: set[str] = set()

    def add(self, node: OnnxNode) -> None:
        """Emits one node, with the quantiser after it where there is an integer form."""
        if node.op == "DequantizeLinear":
            self._dequantised(node)
        elif node.op == "QuantizeLinear":
            self._quantised(node)
        elif not self._integer(node):
            for name in node.inputs:
                self._as_float(name)
            self.steps.append(float_step(node))

    def needed(self) -> tuple[list[Step], dict]:
        """The steps that the output depends on, and the constants that they read."""
        self._as_float(self.output)
        wanted, kept = {self.output}, []
        for step in reversed(self.steps):
            if step.output in wanted:
                wanted |= set(step.inputs)
                kept.append(step)
        return kept[::-1], {name: value for name, value in self.constants.items() if name in wanted}

    def _integer(self, node: OnnxNode) -> bool:
        """Whether the node was emitted as an integer op."""
        wanted = self._wanted(node.output)
        operands = [self.typed.get(name) for name in node.inputs]
        if node.op in LAYERS and operands[0] and node.inputs[1] in self.weights:
            self._layer(node, operands[0], wanted)
        else:
            for affine in [operand[1] for operand in operands if operand] + ([wanted.affine] if wanted else []):
                _of_one_scale(affine, node.name)
            if wanted is None or not operands[0]:
                return self._moved(node, operands)
            if not self._without_weights(node, operands, wanted):
                return False
        self.done |= {wanted.name, *wanted.passed} if wanted else set()
        return True

    def _without_weights(self, node: OnnxNode, operands: list[tuple[str, Affine] | None], wanted: _Wanted) -> bool:
        """Whether the node was emitted as an integer op that only computes with activations."""
        if node.op in ("Add", "Mul", "Concat") and all(operands):
            self._joined(node, operands, wanted)
        elif node.op in MEANS and self._mean(node, operands[0], wanted):
            pass
        elif node.op in SAME_NUMBERS:
            self._same_numbers(node, operands[0], wanted)
        elif node.op in UNARY:
            self._table(node, operands[0], wanted)
        else:
            return False
        return True

    # what is quantised, and how

    def _affine(self, node: OnnxNode) -> Affine:
        """The type that a quantiser's constants name: 8 bits, one zero point a tensor, one scale or one a channel."""
        scales, zero = self.constants[node.inputs[1]].astype(np.float32).ravel(), self.constants[node.inputs[2]]
        zeros, axis = np.unique(zero), node.attributes.get("axis", 1)
        if zero.dtype not in (np.uint8, np.int8) or len(zeros) > 1 or scales.size > 1 and axis != 1:
            raise _uncovered(node.inputs[1], f"{zero.dtype} with {scales.size} scales along axis {axis} and {len(zeros)} zero points")
        shifted = int(zeros[0]) - int(np.iinfo(zero.dtype).min)
        return Affine(float(scales[0]) if scales.size == 1 else tuple(map(float, scales)), shifted)

    def _dequantised(self, node: OnnxNode) -> None:
        source = node.inputs[0]
        if source in self.constants:  # weights; a layer takes them as they are
            self.weights[node.output] = _Stored(*(self.constants[name] for name in node.inputs), node.attributes.get("axis", 1))
            self.constants[node.output] = self.weights[node.output].real()
        else:
            self.typed[node.output] = (source, self._affine(node))

    def _quantised(self, node: OnnxNode) -> None:
        source, affine = node.inputs[0], _of_one_scale(self._affine(node), node.inputs[1])
        if source in self.typed:
            name, given = self.typed[source]
            self._emit("int8_rescale", (name,), node.output, int8_rescale.arguments(given, affine, *ANY))
            return
        self._emit("quantize", (source,), node.output, {"scale": affine.scale, "zero_point": affine.zero_point})

    def _wanted(self, name: str) -> _Wanted | None:
        """The uint8 tensor that alone is made of a result."""
        reader, (low, high), passed = self._reader(name), ANY, []
        while reader and reader.op in CLAMPS:
            bounds = self._bounds(reader)
            low, high = max(low, bounds[0]), min(high, bounds[1])
            passed.append(reader.output)
            reader = self._reader(reader.output)
        if reader is None or reader.op != "QuantizeLinear":
            return None
        return _Wanted(reader.output, self._affine(reader), (low, high), tuple(passed))

    def _reader(self, name: str) -> OnnxNode | None:
        """The node that alone reads a tensor."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name != self.output else None

    def _bounds(self, node: OnnxNode) -> tuple[float, float]:
        if node.op == "Relu":
            return 0.0, math.inf
        named = dict(zip(("min", "max"), node.inputs[1:]))
        values = [float(self.constants[named[key]]) if named.get(key) else node.attributes.get(key, bound)
                  for key, bound in (("min", -math.inf), ("max", math.inf))]
        return values[0], values[1]

    def _as_float(self, name: str) -> None:
        """Makes a dequantised tensor exist in float."""
        if name in self.typed and name not in self.done:
            self.done.add(name)
            source, affine = self.typed[name][0], _of_one_scale(self.typed[name][1], name)
            self._emit("dequantize", (source,), name, {"scale": affine.scale, "zero_point": affine.zero_point})

    def _emit(self, op: str, inputs: tuple[str, ...], output: str, arguments: dict[str, object]) -> None:
        self._call(partial(getattr(torch.ops.netwright, op), **arguments), inputs, output)

    def _call(self, call: Callable, inputs: tuple[str, ...], output: str) -> None:
        self.steps.append(Step(call, inputs, output))

    # integer forms

    def _moved(self, node: OnnxNode, operands: list[tuple[str, Affine] | None]) -> bool:
        """What only moves, joins or chooses numbers of one type, and is not quantised again, keeps that type."""
        sources = operands if node.op == "Concat" else operands[:1] if node.op in SAME_NUMBERS else []
        if not sources or not all(sources) or len({affine for _, affine in sources}) > 1:
            return False
        steps, names = f"{node.output}.steps", tuple(name for name, _ in sources)
        self._call(partial(CALLS[node.op], node.attributes), (*names, *node.inputs[len(names):]), steps)
        self.typed[node.output] = (steps, sources[0][1])
        return True

    def _layer(self, node: OnnxNode, operand: tuple[str, Affine], wanted: _Wanted | None) -> None:
        """A convolution or dense layer."""
        source, affine = operand
        transposed = node.op != "Conv" and not node.attributes.get("transB")
        weight, scale = self.weights[node.inputs[1]].symmetric(node.inputs[1], 1 if transposed else 0)
        if isinstance(affine.scale, tuple) and not len(affine.scale) == len(weight) == node.attributes.get("group"):
            _of_one_scale(affine, node.name)
        bias = self.constants[node.inputs[2]] if len(node.inputs) > 2 else np.zeros(len(weight))
        given, bounds = (wanted.affine, wanted.bounds) if wanted else (None, ANY)
        tensors, arguments = integer_form(weight, torch.from_numpy(np.array(bias, np.float64)), scale, affine, given, *bounds)
        inputs = [source]
        for name, tensor in {"weight": weight, **tensors}.items():
            self.constants[f"{node.output}.{name}"] = tensor
            inputs.append(f"{node.output}.{name}")
        op = "int8_linear"
        if node.op == "Conv":
            op, arguments = "int8_conv2d", {**_geometry(node), "zero_point": affine.zero_point, **arguments}
        self._emit(op, tuple(inputs), wanted.name if wanted else node.output, arguments)

    def _joined(self, node: OnnxNode, operands: list[tuple[str, Affine]], wanted: _Wanted) -> None:
        """A sum, product or concatenation of quantised tensors."""
        (names, affines), out = zip(*operands), wanted.affine
        if node.op == "Add":
            self._emit("int8_add", names, wanted.name, int8_add.arguments(*affines, out, *wanted.bounds))
        elif node.op == "Mul":
            self._product(names, affines, wanted)
        else:
            parts = tuple(self._rescaled(*operand, f"{wanted.name}.{i}", wanted) for i, operand in enumerate(operands))
            self._call(lambda *tensors: torch.cat(tensors, node.attributes["axis"]), parts, wanted.name)

    def _product(self, names: tuple[str, str], affines: tuple[Affine, Affine], wanted: _Wanted) -> None:
        """A product; of a number with a function of itself, as in h-swish, a table."""
        for (x, y), types in ((names, affines), (names[::-1], affines[::-1])):
            source, table = self.tables.get(y, ("", None))
            if source == x:
                bounds = clamp_steps(*wanted.bounds, wanted.affine.scale, wanted.affine.zero_point)
                results = int8_mul.reference(EVERY, table, **int8_mul.arguments(*types, wanted.affine))
                self._lookup(x, torch.clamp(results, int(bounds["low"]), int(bounds["high"])), wanted)
                return
        product = f"{wanted.name}.product"
        self._emit("int8_mul", names, product, int8_mul.arguments(*affines, wanted.affine))
        self._finished(product, wanted.affine, wanted)

    def _rescaled(self, name: str, affine: Affine, renamed: str, wanted: _Wanted) -> str:
        """The name of the tensor in the wanted type."""
        if affine == wanted.affine and wanted.bounds == ANY:
            return name
        self._emit("int8_rescale", (name,), renamed, int8_rescale.arguments(affine, wanted.affine, *wanted.bounds))
        return renamed

    def _finished(self, name: str, affine: Affine, wanted: _Wanted) -> None:
        """Gives the last step's result the wanted type and name."""
        if self._rescaled(name, affine, wanted.name, wanted) == name:
            self.steps[-1] = replace(self.steps[-1], output=wanted.name)

    def _mean(self, node: OnnxNode, operand: tuple[str, Affine], wanted: _Wanted) -> bool:
        """An average over windows or the whole image; not one with padding."""
        name, affine = operand
        attributes, whole = node.attributes, node.op != "AveragePool"
        axes = self.constants[node.inputs[1]] if len(node.inputs) > 1 else attributes.get("axes", (2, 3))
        if any(attributes.get("pads", ())) or attributes.get("ceil_mode") or sorted(int(a) % 4 for a in axes) != [2, 3]:
            return False

        def pool(x):
            sides = list(x.shape[2:]) if whole else list(attributes["kernel_shape"])
            strides = sides if whole else list(attributes.get("strides", (1, 1)))
            out = torch.ops.netwright.int8_avg_pool2d(x, **int8_avg_pool2d.arguments(affine, wanted.affine, sides, strides))
            return out if attributes.get("keepdims", 1) else out.flatten(1)
        self._call(pool, (name,), f"{wanted.name}.mean")
        self._finished(f"{wanted.name}.mean", wanted.affine, wanted)
        return True

    def _same_numbers(self, node: OnnxNode, operand: tuple[str, Affine], wanted: _Wanted) -> None:
        """What only moves or chooses numbers: on the integers, in their own type, then rescaled if the type changes."""
        name, affine = operand
        moved = f"{wanted.name}.moved"
        self._call(partial(CALLS[node.op], node.attributes), (name, *node.inputs[1:]), moved)
        self._finished(moved, affine, wanted)

    def _table(self, node: OnnxNode, operand: tuple[str, Affine], wanted: _Wanted) -> None:
        """A function of one number: its 256 results."""
        name, affine = operand
        others = [float(self.constants[n]) if n else None for n in node.inputs[1:]]
        results = CALLS[node.op](node.attributes, _real(EVERY, affine), *others).clamp(*wanted.bounds)
        self._lookup(name, quantize.reference(results, wanted.affine.scale, wanted.affine.zero_point), wanted)

    def _lookup(self, source: str, table: torch.Tensor, wanted: _Wanted) -> None:
        """A table of what follows from each of the 256 numbers."""
        self.constants[f"{wanted.name}.table"] = table
        self.tables[wanted.name] = (source, table)
        self._emit("int8_lookup", (source, f"{wanted.name}.table"), wanted.name, {})


def _of_one_scale(affine: Affine, name: str) -> Affine:
    """The type. ValueError if it has one scale a channel."""
    if isinstance(affine.scale, tuple):
        raise _uncovered(name, f"{len(affine.scale)} scales, but from an integer layer to a depthwise convolution,")
    return affine


def _uncovered(name: str, kind: str) -> ValueError:
    return ValueError(f"{name}: activations of {kind} are not covered; quantise them to uint8 or int8 with one scale a tensor"
                      " (NNCF: activations_quantization_params with per_channel=False)")


def _real(steps: torch.Tensor, affine: Affine) -> torch.Tensor:
    """What uint8 steps stand for, float32."""
    return (steps.to(torch.float32) - affine.zero_point) * affine.scale


def _geometry(node: OnnxNode) -> dict[str, object]:
    """The arguments of a convolution. ValueError if it pads unevenly."""
    attributes = node.attributes
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    if pads[:2] != pads[2:] or attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ValueError(f"node {node.name!r} pads {pads}; integer convolutions pad evenly")
    return {"stride": list(attributes.get("strides", (1, 1))), "padding": pads[:2],
            "dilation": list(attributes.get("dilations", (1, 1))), "groups": attributes.get("group", 1)}
