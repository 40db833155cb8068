"""An ONNX file as a torch module: initialisers become parameters, each node a call of torch.

Covers what image classifiers in float32 use (ONNX operators, opset 13 and later). A node that is not covered, or whose
shape arguments are not constant, is named.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from evaluators.model import ModelError


def read_onnx(path: Path) -> tuple[nn.Module, tuple[int, ...]]:
    """The network of the file in eval mode, and the shape of its input (1 where a dimension is open)."""
    import onnx

    from evaluators.qdq_import import integer_steps

    try:
        graph = onnx.load(path).graph
    except Exception as error:  # whatever the parser says of a broken file
        raise ModelError(f"{path}: no ONNX file ({str(error).splitlines()[0]})") from None
    known = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in known]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ModelError(f"{path}: {len(inputs)} inputs and {len(graph.output)} outputs; a classifier has one each")
    shape = tuple(dimension.dim_value or 1 for dimension in inputs[0].type.tensor_type.shape.dim)
    try:
        steps, constants = integer_steps(*read_nodes(graph), graph.output[0].name)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None
    return OnnxNetwork(steps, constants, inputs[0].name, graph.output[0].name).eval(), shape


@dataclass(frozen=True)
class OnnxNode:
    """A node of the graph: inputs and outputs by name, attributes as Python values."""

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict


@dataclass(frozen=True)
class Step:
    """A call of torch on named values; `output` names its result."""

    call: Callable
    inputs: tuple[str, ...]
    output: str


def read_nodes(graph) -> tuple[list[OnnxNode], dict[str, np.ndarray]]:
    """The nodes in their order, and the constants by name."""
    from onnx import helper, numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(attributes["value"])
        else:
            nodes.append(OnnxNode(node.op_type, node.name, tuple(node.input), node.output[0], attributes))
    return nodes, constants


def float_step(node: OnnxNode) -> Step:
    """A node as a call of torch. ValueError names an operator that is not covered."""
    if node.op not in CALLS:
        raise ValueError(f"ONNX operator {node.op} (node {node.name!r}) is not covered; covered: {', '.join(sorted(CALLS))}")
    return Step(partial(CALLS[node.op], node.attributes), node.inputs, node.output)


class OnnxNetwork(nn.Module):
    """Runs steps in their order; tensors among the constants are its parameters."""

    def __init__(self, steps: list[Step], constants: dict[str, np.ndarray | torch.Tensor], source: str, output: str):
        super().__init__()
        self._source, self._output, self._steps = source, output, steps
        self._names: dict[str, str] = {}
        self._numbers: dict[str, float | list[int]] = {}
        for name, value in constants.items():
            self._keep(name, value)

    def _keep(self, name: str, value: np.ndarray | torch.Tensor) -> None:
        """Torch tensors and float arrays become parameters; single floats and integers (bounds, shapes, axes) stay plain
        numbers."""
        if isinstance(value, np.ndarray) and (value.dtype.kind != "f" or value.ndim == 0):
            self._numbers[name] = float(value) if value.dtype.kind == "f" else value.reshape(-1).tolist()
            return
        self._names[name] = self._attribute(name)
        tensor = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value, np.float32))
        self.register_parameter(self._names[name], nn.Parameter(tensor, requires_grad=False))

    def _attribute(self, name: str) -> str:
        """The name as one of Python's that is not taken."""
        plain = re.sub(r"\W", "_", name)
        return plain if plain.isidentifier() and not hasattr(self, plain) else f"tensor{len(self._names)}_{plain}"

    def forward(self, x):
        values: dict[str, object] = {"": None, self._source: x, **self._numbers}
        values |= {name: getattr(self, attribute) for name, attribute in self._names.items()}
        for step in self._steps:
            values[step.output] = step.call(*(values[name] for name in step.inputs))
        return values[self._output]


def _sides(attributes: dict, x: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """The padding of a window; an uneven one is applied to x at once."""
    pads = attributes.get("pads", [0, 0, 0, 0])
    if list(pads[:2]) == list(pads[2:]):
        return x, list(pads[:2])
    return F.pad(x, [pads[1], pads[3], pads[0], pads[2]]), [0, 0]


def _convolution(attributes: dict, x, weight, bias=None):
    x, padding = _sides(attributes, x)
    return F.conv2d(x, weight, bias, list(attributes.get("strides", [1, 1])), padding,
                    list(attributes.get("dilations", [1, 1])), attributes.get("group", 1))


def _dense(attributes: dict, x, weight, bias=None):
    weight = weight if attributes.get("transB") else weight.t()
    weight = weight * attributes["alpha"] if attributes.get("alpha", 1.0) != 1.0 else weight
    return F.linear(x.t() if attributes.get("transA") else x, weight, bias)


def _max_pool(attributes: dict, x):
    return F.max_pool2d(x, list(attributes["kernel_shape"]), list(attributes.get("strides", [1, 1])),
                        list(attributes.get("pads", [0, 0, 0, 0])[:2]), list(attributes.get("dilations", [1, 1])),
                        bool(attributes.get("ceil_mode", 0)))


def _average_pool(attributes: dict, x):
    return F.avg_pool2d(x, list(attributes["kernel_shape"]), list(attributes.get("strides", [1, 1])),
                        list(attributes.get("pads", [0, 0, 0, 0])[:2]), bool(attributes.get("ceil_mode", 0)),
                        bool(attributes.get("count_include_pad", 0)))


def _mean(attributes: dict, x, axes=None):
    axes = axes or list(attributes.get("axes", range(x.dim())))
    keep = bool(attributes.get("keepdims", 1))
    if x.dim() == 4 and sorted(axis % 4 for axis in axes) == [2, 3]:
        means = F.adaptive_avg_pool2d(x, 1)
        return means if keep else means.flatten(1)
    return x.mean(axes, keep)


def _clip(attributes: dict, x, low=None, high=None):
    return torch.clamp(x, attributes.get("min", low), attributes.get("max", high))


def _norm(attributes: dict, x, scale, shift, mean, variance):
    return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, attributes.get("epsilon", 1e-5))


def _reshape(attributes: dict, x, shape):
    return x.reshape([x.shape[i] if side == 0 else side for i, side in enumerate(shape)])


def _hard_sigmoid(attributes: dict, x):
    if abs(attributes.get("alpha", 0.2) - 1 / 6) < 1e-6 and attributes.get("beta", 0.5) == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * attributes.get("alpha", 0.2) + attributes.get("beta", 0.5), 0.0, 1.0)


CALLS: dict[str, Callable] = {
    "Conv": _convolution, "Gemm": _dense, "MaxPool": _max_pool, "AveragePool": _average_pool, "ReduceMean": _mean,
    "Clip": _clip, "BatchNormalization": _norm, "Reshape": _reshape, "HardSigmoid": _hard_sigmoid,
    "GlobalAveragePool": lambda attributes, x: F.adaptive_avg_pool2d(x, 1),
    "Relu": lambda attributes, x: F.relu(x), "HardSwish": lambda attributes, x: F.hardswish(x),
    "Sigmoid": lambda attributes, x: torch.sigmoid(x), "Tanh": lambda attributes, x: torch.tanh(x),
    "Softmax": lambda attributes, x: torch.softmax(x, attributes.get("axis", -1)),
    "Add": lambda attributes, x, y: x + y, "Mul": lambda attributes, x, y: x * y,
    "Sub": lambda attributes, x, y: x - y, "Div": lambda attributes, x, y: x / y,
    "MatMul": lambda attributes, x, y: F.linear(x, y.t()) if y.dim() == 2 else x @ y,
    "Concat": lambda attributes, *tensors: torch.cat(tensors, attributes["axis"]),
    "Flatten": lambda attributes, x: x.flatten(attributes.get("axis", 1)),
    "Squeeze": lambda attributes, x, axes: x.squeeze(axes), "Identity": lambda attributes, x: x,
    "Dropout": lambda attributes, x, *ratio: x, "Transpose": lambda attributes, x: x.permute(list(attributes["perm"])),
}
