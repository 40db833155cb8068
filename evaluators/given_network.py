"""The network that a study's [model] names, read once: its exported program as steps (`spaces.given`), with the user's weights.

Read from the program that torch.export traces, so that it makes no difference how its Python code is written. Steps are those that
training, compression and freezing know; an operation beyond these is named.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import fx, nn

from evaluators.model import ModelError, load_model
from evaluators.training.raw import locate
from evaluators.user_weights import read_weights
from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE, Role
from spaces.compress import removable
from spaces.given import Given, Step, keep, untrained

BATCH = 2  # images of the trace: a number of its own among the sides of tensors
CLOSE = 1e-4


def given_network(settings, shape: tuple[int, int, int], classes: int) -> str:
    """The hash of the network that a study's [model] table names, with the weights of its file if one is named, for images of `shape`.
    ModelError if it cannot be compressed or does not fit."""
    model, network = settings.source, load_model(settings.source, (1, *shape)).network
    if isinstance(network, fx.GraphModule):
        raise ModelError(f"model.source = {model!r} is a program, which is fixed; give a module:function or an .onnx file")
    if settings.weights:
        read_weights(network, locate(settings.weights, "model.weights"))
    steps, tensors = _steps(model, network, shape)
    made = untrained(steps)
    made.load_state_dict(tensors)
    images = torch.randn(8, *shape, generator=torch.Generator().manual_seed(0))
    _check(model, network, made.eval(), images, classes)
    kinds = {step.name: kind for step in steps if (kind := _kind(step))}
    roles = {path: Role(kind, kind in (CONV, POINTWISE) and removable(made, path, images)) for path, kind in kinds.items()}
    return keep(Given(steps, roles, shape, classes), made.state_dict())


@torch.no_grad()
def _check(model: str, network: nn.Module, made: nn.Module, images: torch.Tensor, classes: int) -> None:
    """ModelError unless the steps compute what the network does, for so many classes."""
    found = made(images)
    if found.shape != (len(images), classes):
        raise ModelError(f"model.source = {model!r} gives {tuple(found.shape[1:])} numbers an image, and the data has {classes} classes;"
                         " give a network for these")
    expected = network(images[:BATCH])
    if not torch.allclose(found[:BATCH], expected, rtol=CLOSE, atol=CLOSE * float(expected.abs().max())):
        raise ModelError(f"model.source = {model!r} gives other numbers than its operations one by one; is an image's result its own?")


def _kind(step: Step) -> str | None:
    """What a compressible layer is; None for other steps, and for groups of several channels."""
    if step.kind == "Linear":
        return DENSE
    if step.kind != "Conv2d":
        return None
    inputs, groups = step.settings["in_channels"], step.settings["groups"]
    if groups > 1:
        return DEPTHWISE if groups == inputs else None
    return POINTWISE if tuple(step.settings["kernel_size"]) == (1, 1) else CONV


def _steps(model: str, network: nn.Module, shape: tuple[int, int, int]) -> tuple[tuple[Step, ...], dict[str, torch.Tensor]]:
    """The steps of a network and their tensors."""
    reader, program = _Reader(model, network), _program(model, network.eval(), shape)
    for node in program.graph.nodes:
        reader.read(node, program.graph_signature)
    return tuple(reader.steps), reader.tensors


@torch.no_grad()
def _program(model: str, network: nn.Module, shape: tuple[int, int, int]):
    try:
        return torch.export.export(network, (torch.zeros(BATCH, *shape),))
    except Exception as error:  # whatever tracing or the network itself says of such images
        raise ModelError(f"model.source = {model!r} cannot be traced for images of {'x'.join(map(str, shape))}:"
                         f" {str(error).splitlines()[0]}") from None


@dataclass(frozen=True)
class _Constant:
    """A stored tensor, or what is computed from such alone: `path` is where the first of them is in the network."""

    path: str
    tensor: torch.Tensor


@dataclass
class _Reader:
    """What has been read: `values` is for each node the name of its step, "" for the images, or a constant."""

    model: str
    network: nn.Module
    steps: list[Step] = field(default_factory=list)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    values: dict[fx.Node, str | _Constant] = field(default_factory=dict)

    def read(self, node: fx.Node, signature) -> None:
        """Reads a node of the program."""
        if node.op == "placeholder":
            path = (signature.inputs_to_parameters | signature.inputs_to_buffers).get(node.name)
            self.values[node] = "" if path is None else _Constant(path, _tensor(self.network, path))
        elif node.op == "call_function":
            constant = all(isinstance(self.values[source], _Constant) for source in node.all_input_nodes)
            self.values[node] = self._folded(node) if constant and node.all_input_nodes else self._read(node)
        elif [self.value(result) for result in node.args[0]] != [self.steps[-1].name if self.steps else None]:
            raise ModelError(f"model.source = {self.model!r} gives {len(node.args[0])} results, or not its last operation's; a classifier"
                             " gives its logits")

    def value(self, argument: object) -> object:
        """An argument: of a node, what it is."""
        return self.values[argument] if isinstance(argument, fx.Node) else argument

    def _folded(self, node: fx.Node) -> _Constant:
        """What an operation on constants gives, such as transposed weights."""
        arguments, options = fx.node.map_arg((node.args, node.kwargs), lambda source: self.values[source].tensor)
        return _Constant(self.values[node.all_input_nodes[0]].path, node.target(*arguments, **options))

    def _read(self, node: fx.Node) -> str:
        name = str(node.target).split(".")[1]
        reader = READERS.get(name.rstrip("_"))
        found = reader(self, node) if reader else None
        if found is None:
            raise ModelError(f"model.source = {self.model!r}: {name} ({node.name}) cannot be compressed around; what can is"
                             f" {', '.join(sorted(READERS))}, as image classifiers use them")
        return found

    def step(self, kind: str, inputs: tuple[str, ...], name: str, **settings) -> str:
        """Adds a step; its name."""
        self.steps.append(Step(name, kind, inputs, settings))
        return name

    def layer(self, kind: str, node: fx.Node, tensors: dict[str, _Constant | None], **settings) -> str:
        """Adds a step with tensors, called by their path in the network."""
        path = next(value.path for value in tensors.values() if value is not None).rpartition(".")
        name = path[0] if path[1] else path[2].removesuffix("_weight")
        if any(step.name == name for step in self.steps):
            raise ModelError(f"model.source = {self.model!r}: the layer {name} is used twice, and would be two after compression")
        for key, value in tensors.items():
            if value is not None:
                self.tensors[f"{name}.{key}"] = value.tensor.detach().clone()
        return self.step(kind, (self.value(node.args[0]),), name, **settings)


def _tensor(network: nn.Module, path: str) -> torch.Tensor:
    owner, _, name = path.rpartition(".")
    return getattr(network.get_submodule(owner), name)


def _arguments(reader: _Reader, node: fx.Node) -> dict[str, object]:
    """The arguments by name, defaults included; nodes as what they are."""
    schema = node.target._schema.arguments
    given = {**dict(zip((argument.name for argument in schema), node.args)), **node.kwargs}
    return {argument.name: reader.value(given.get(argument.name, argument.default_value)) for argument in schema}


def _pair(value: list[int]) -> list[int]:
    return list(value) * 2 if len(value) == 1 else list(value)


def _conv2d(reader: _Reader, node: fx.Node) -> str | None:
    a = _arguments(reader, node)
    padding = _padding(a) if isinstance(a["weight"], _Constant) else None
    if padding is None:
        return None
    weight = a["weight"].tensor
    return reader.layer("Conv2d", node, {"weight": a["weight"], "bias": a["bias"]}, in_channels=weight.shape[1] * a["groups"],
                        out_channels=len(weight), kernel_size=list(weight.shape[2:]), stride=_pair(a["stride"]), padding=padding,
                        dilation=_pair(a["dilation"]), groups=a["groups"], bias=a["bias"] is not None)


def _padding(a: dict[str, object]) -> list[int] | None:
    """Rows and columns of zeros on each side; None where one side would get more than the other."""
    if not isinstance(a["padding"], str):
        return _pair(a["padding"])
    both = [spread * (side - 1) * (a["padding"] == "same") for spread, side in zip(_pair(a["dilation"]), a["weight"].tensor.shape[2:])]
    return None if any(count % 2 for count in both) else [count // 2 for count in both]


def _linear(reader: _Reader, node: fx.Node) -> str | None:
    a = _arguments(reader, node)
    if not isinstance(a["weight"], _Constant):
        return None
    outputs, inputs = a["weight"].tensor.shape
    return reader.layer("Linear", node, {"weight": a["weight"], "bias": a["bias"]}, in_features=inputs, out_features=outputs,
                        bias=a["bias"] is not None)


def _batch_norm(reader: _Reader, node: fx.Node) -> str | None:
    a = _arguments(reader, node)
    if a["running_mean"] is None or len(node.meta["val"].shape) != 4:
        return None
    statistics = {"running_mean": a["running_mean"], "running_var": a["running_var"]}
    affine = {"weight": a["weight"], "bias": a["bias"]} if a["weight"] is not None else {}
    name = reader.layer("BatchNorm2d", node, {**affine, **statistics}, num_features=len(a["running_mean"].tensor), eps=a["eps"],
                        momentum=a["momentum"], affine=bool(affine))
    reader.tensors[f"{name}.num_batches_tracked"] = torch.tensor(0)
    return name


def _plain(kind: str) -> Callable[[_Reader, fx.Node], str]:
    """A reader of an operation without settings."""
    return lambda reader, node: reader.step(kind, (reader.value(node.args[0]),), node.name)


def _clamp(reader: _Reader, node: fx.Node) -> str | None:
    _, *bounds = _arguments(reader, node).values()
    kind = {(0, 6): "ReLU6", (0, None): "ReLU"}.get(tuple(bounds))
    return reader.step(kind, (reader.value(node.args[0]),), node.name) if kind else None


def _max_pool(reader: _Reader, node: fx.Node) -> str | None:
    a = _arguments(reader, node)
    return reader.step("MaxPool2d", (a["self"],), node.name, kernel_size=_pair(a["kernel_size"]),
                       stride=_pair(a["stride"] or a["kernel_size"]), padding=_pair(a["padding"]), dilation=_pair(a["dilation"]),
                       ceil_mode=a["ceil_mode"])


def _avg_pool(reader: _Reader, node: fx.Node) -> str | None:
    a, sides = _arguments(reader, node), list(node.args[0].meta["val"].shape[2:])
    if a["divisor_override"] is not None:
        return None
    if _pair(a["kernel_size"]) == sides and not any(a["padding"]):
        return reader.step("AdaptiveAvgPool2d", (a["self"],), node.name, output_size=1)
    return reader.step("AvgPool2d", (a["self"],), node.name, kernel_size=_pair(a["kernel_size"]),
                       stride=_pair(a["stride"] or a["kernel_size"]), padding=_pair(a["padding"]), ceil_mode=a["ceil_mode"],
                       count_include_pad=a["count_include_pad"])


def _adaptive_pool(reader: _Reader, node: fx.Node) -> str | None:
    a = _arguments(reader, node)
    return reader.step("AdaptiveAvgPool2d", (a["self"],), node.name, output_size=1) if set(a["output_size"]) == {1} else None


def _mean(reader: _Reader, node: fx.Node) -> str | None:
    a = _arguments(reader, node)
    if sorted(axis % 4 for axis in a["dim"] or []) != [2, 3] or len(node.args[0].meta["val"].shape) != 4:
        return None
    name = reader.step("AdaptiveAvgPool2d", (a["self"],), node.name, output_size=1)
    return name if a["keepdim"] else reader.step("Flatten", (name,), f"{node.name}_flat")


def _shape(reader: _Reader, node: fx.Node) -> str | None:
    """What gives each image's numbers in one row."""
    before, after = node.args[0].meta["val"].shape, node.meta["val"].shape
    if tuple(before) == tuple(after):
        return reader.value(node.args[0])
    if tuple(after) != (before[0], math.prod(before[1:])):
        return None
    return reader.step("Flatten", (reader.value(node.args[0]),), node.name)


def _two(kind: str) -> Callable[[_Reader, fx.Node], str | None]:
    """A reader of an operation on two tensors."""
    def read(reader: _Reader, node: fx.Node) -> str | None:
        both = tuple(reader.value(argument) for argument in node.args)
        two = len(both) == 2 and all(isinstance(value, str) for value in both) and not node.kwargs  # such as a factor of one of them
        return reader.step(kind, both, node.name) if two else None
    return read


def _cat(reader: _Reader, node: fx.Node) -> str | None:
    tensors = tuple(reader.value(argument) for argument in node.args[0])
    channels = len(node.args) > 1 and node.args[1] in (1, 1 - len(node.meta["val"].shape))
    return reader.step("cat", tensors, node.name) if channels and all(isinstance(value, str) for value in tensors) else None


def _dropout(kind: str) -> Callable[[_Reader, fx.Node], str]:
    """A reader of a dropout."""
    return lambda reader, node: reader.step(kind, (reader.value(node.args[0]),), node.name, p=node.args[1])


def _slice(reader: _Reader, node: fx.Node) -> str | None:
    """Every so many rows or columns, which is a pool of one pixel; or all there is."""
    a, source = _arguments(reader, node), node.args[0].meta["val"].shape
    whole = (a["start"] or 0) == 0 and (a["end"] is None or a["end"] >= source[a["dim"]])
    if not whole or a["step"] > 1 and (len(source) != 4 or a["dim"] < 2):
        return None
    if a["step"] == 1:
        return a["self"]
    stride = [a["step"] if a["dim"] == axis else 1 for axis in (2, 3)]
    last = reader.steps[-1] if reader.steps else None
    if last and last.name == a["self"] and last.settings.get("kernel_size") == 1 and len(node.args[0].users) == 1:
        reader.steps.pop()  # the rows of what are columns already: both at once
        return reader.step("MaxPool2d", last.inputs, node.name, kernel_size=1, stride=[one * other for one, other in
                                                                                       zip(stride, last.settings["stride"])])
    return reader.step("MaxPool2d", (a["self"],), node.name, kernel_size=1, stride=stride)


def _pad(reader: _Reader, node: fx.Node) -> str | None:
    a = _arguments(reader, node)
    sides = [*a["pad"], *[0] * 6][:6]
    zeros = not a["value"] and a.get("mode", "constant") == "constant"
    if len(node.meta["val"].shape) != 4 or any(a["pad"][6:]) or min(sides) < 0 or not zeros:
        return None
    return reader.step("ConstantPad3d", (a["self"],), node.name, padding=sides, value=0.0)


def _same(reader: _Reader, node: fx.Node) -> str:
    return reader.value(node.args[0])


READERS: dict[str, Callable[[_Reader, fx.Node], str | None]] = {
    "conv2d": _conv2d, "linear": _linear, "batch_norm": _batch_norm, "relu": _plain("ReLU"), "relu6": _plain("ReLU6"),
    "hardtanh": _clamp, "clamp": _clamp, "hardswish": _plain("Hardswish"), "hardsigmoid": _plain("Hardsigmoid"), "silu": _plain("SiLU"),
    "sigmoid": _plain("Sigmoid"), "max_pool2d": _max_pool, "avg_pool2d": _avg_pool, "adaptive_avg_pool2d": _adaptive_pool, "mean": _mean,
    "view": _shape, "reshape": _shape, "flatten": _shape, "squeeze": _shape, "add": _two("add"), "mul": _two("mul"), "cat": _cat,
    "dropout": _dropout("Dropout"), "feature_dropout": _dropout("Dropout2d"), "slice": _slice, "constant_pad_nd": _pad, "pad": _pad,
    "alias": _same,
    "detach": _same, "contiguous": _same, "clone": _same,
}
