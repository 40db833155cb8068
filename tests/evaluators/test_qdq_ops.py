"""Each integer op of an imported QDQ graph beside ONNX Runtime, in integers as it runs by default and operator by operator in
floats, on equal uint8 inputs, with random scales and zero points: within one quantum, and equal but for numbers that lie at a half."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from evaluators.onnx_import import read_onnx

ort = pytest.importorskip("onnxruntime")


@dataclass(frozen=True)
class Case:
    """Operators in float between dequantised inputs x and y and the quantiser: `nodes` make "out". y is x transposed or, for
    `gate`, the largest value of each channel. `scale` of the result: what its numbers need, for scales of x and y."""

    nodes: tuple
    scale: object = staticmethod(lambda x, y: x)
    gate: bool = False


def node(op: str, inputs: str, output: str = "out", **attributes):
    return helper.make_node(op, inputs.split(), [output], **attributes)


SIX = [numpy_helper.from_array(np.array(value, "float32"), name) for name, value in (("zero", 0), ("six", 6))]
AXES = numpy_helper.from_array(np.array([2, 3]), "axes")
CONSTANTS = [*SIX, AXES]


def product(x: float, y: float) -> float:
    return 100 * x * y


CASES = {
    "sum": Case((node("Add", "x y"),), lambda x, y: x + y),
    "rectified sum": Case((node("Add", "x y", "sum"), node("Relu", "sum")), lambda x, y: x + y),
    "product": Case((node("Mul", "x y"),), product),
    "rectified product": Case((node("Mul", "x y", "product"), node("Relu", "product")), product),
    "gate": Case((node("Mul", "x y"),), product, gate=True),
    "concatenation": Case((node("Concat", "x y", axis=1),), max),
    "clipped concatenation": Case((node("Concat", "x y", "whole", axis=1), node("Clip", "whole zero six")), max),
    "average of windows": Case((node("AveragePool", "x", kernel_shape=[3, 2], strides=[2, 1]),)),
    "average of images": Case((node("GlobalAveragePool", "x"),)),
    "mean, flattened": Case((node("ReduceMean", "x axes", "mean"), node("Flatten", "mean"))),
    "rectified mean": Case((node("ReduceMean", "x axes", "mean", keepdims=0), node("Relu", "mean"))),
    "largest of windows": Case((node("MaxPool", "x", kernel_shape=[2, 3], strides=[2, 2]),)),
    "another scale": Case((node("Identity", "x"),)),
    "relu6": Case((node("Clip", "x zero six"),)),
    "sigmoid": Case((node("Sigmoid", "x"),), lambda x, y: 1 / 255),
    "tanh": Case((node("Tanh", "x"),), lambda x, y: 2 / 255),
    "h-sigmoid": Case((node("HardSigmoid", "x", alpha=1 / 6, beta=0.5),), lambda x, y: 1 / 255),
    "h-swish": Case((node("HardSwish", "x"),)),
}


def written(case: Case, shape: tuple[int, ...], rng, path) -> float:
    """Writes the graph; returns the result's scale."""
    scales = {name: float(rng.uniform(0.01, 0.08)) for name in "xy"}
    scales["q"] = float(case.scale(*scales.values()) * rng.uniform(0.5, 1.5))
    constants = [numpy_helper.from_array(np.array(value, "float32"), f"{name}_scale") for name, value in scales.items()]
    constants += [numpy_helper.from_array(np.array(rng.integers(0, 256), "uint8"), f"{name}_zero") for name in scales]
    second = node("MaxPool", "image", "other", kernel_shape=list(shape[2:])) if case.gate else node(
        "Transpose", "image", "other", perm=[0, 1, 3, 2])
    nodes = [second, node("DequantizeLinear", "image x_scale x_zero", "x"), node("DequantizeLinear", "other y_scale y_zero", "y"),
             *case.nodes, node("QuantizeLinear", "out q_scale q_zero", "q"), node("DequantizeLinear", "q q_scale q_zero", "real")]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, shape)
    result = helper.make_tensor_value_info("real", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "one", [image], [result], [*constants, *CONSTANTS])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return float(np.float32(scales["q"]))


def peer(path, image: np.ndarray, level: str) -> np.ndarray:
    """ONNX Runtime's result."""
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = getattr(ort.GraphOptimizationLevel, level), 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


@pytest.mark.parametrize("level", ["ORT_ENABLE_ALL", "ORT_DISABLE_ALL"])
@pytest.mark.parametrize("name", CASES)
@given(channels=st.integers(1, 37), side=st.integers(3, 12), seed=st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_one_op_is_within_one_quantum_of_onnx_runtime(name, level, tmp_path_factory, channels, side, seed):
    rng, shape = np.random.default_rng(seed), (1, channels, side, side)
    path = tmp_path_factory.mktemp("one") / "op.onnx"
    quantum = written(CASES[name], shape, rng, path)
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    network, _ = read_onnx(path)
    assert not any("dequantize" in str(step.call) for step in network._steps[:-1]), "computed in float"
    quanta = np.abs(network(torch.from_numpy(image)).numpy() - peer(path, image, level)) / quantum
    # One of 256 inputs that lies at a half can be several pixels.
    assert quanta.max() < 1.01 and (quanta > 0.01).sum() <= max(8, 0.01 * quanta.size)
