"""Quantised ONNX files of ONNX Runtime's own quantiser: imported onto integer ops, they compute what ONNX Runtime does."""

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.model import ModelError, from_module, load_model
from evaluators.quantised import _reader, random_images, write_quantised

ort = pytest.importorskip("onnxruntime")


class Residual(nn.Module):
    """A sum, with its own rectifier, around convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.Conv2d(12, 12, 1)

    def forward(self, x):
        return nn.functional.relu(x + self.second(nn.functional.relu6(self.first(x))))


class Fire(nn.Module):
    """Two branches side by side, of different ranges."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(12, 8, 1), nn.Conv2d(12, 9, 3, padding=1)

    def forward(self, x):
        return torch.cat([nn.functional.relu(self.left(x)), nn.functional.relu(self.right(x))], 1)


class Gated(nn.Module):
    """Squeeze-and-excitation and h-swish."""

    def __init__(self):
        super().__init__()
        self.expand, self.gate = nn.Conv2d(12, 20, 1), nn.Conv2d(20, 20, 1)

    def forward(self, x):
        x = nn.functional.hardswish(self.expand(x))
        return x * nn.functional.hardsigmoid(self.gate(nn.functional.adaptive_avg_pool2d(x, 1)))


PARTS = {"residual": (Residual, 12), "fire": (Fire, 17), "gated": (Gated, 20),
         "pools": (lambda: nn.Sequential(nn.MaxPool2d(3, 2), nn.AvgPool2d(2)), 12)}


@pytest.fixture(params=PARTS)
def quantised(request, tmp_path):
    """The path of a small quantised network around one part."""
    torch.manual_seed(0)
    part, channels = PARTS[request.param]
    network = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU(), part(), nn.Conv2d(channels, 8, 1), nn.AdaptiveAvgPool2d(1),
                            nn.Flatten(), nn.Linear(8, 5))
    shape = (1, 3, 21, 21)
    return request.param, write_quantised(from_module(network, shape), tmp_path, random_images(shape).calibration)


def reference(path, image: np.ndarray) -> np.ndarray:
    """ONNX Runtime's own result, in integers as it runs by default."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})[0]


def called(model) -> set[str]:
    """The ops of the exported program."""
    return {str(node.target) for node in model.program.graph.nodes if node.op == "call_function"}


def test_a_quantised_network_computes_integers_as_onnx_runtime_does(quantised):
    name, path = quantised
    model, rng = load_model(str(path), ()), np.random.default_rng(3)
    images = [rng.standard_normal((1, 3, 21, 21), np.float32) for _ in range(20)]
    ours = np.concatenate([model.network(torch.from_numpy(image)).detach().numpy() for image in images])
    theirs = np.concatenate([reference(path, image) for image in images])
    apart = np.abs(ours - theirs) / np.diff(np.unique(theirs)).min()
    # A quarter of the means of four numbers lie at a half, and ONNX Runtime's sum in floats moves them to either side.
    assert apart.max() <= 3.01 and (apart < 0.01).mean() >= 0.5 if name == "pools" else (apart < 0.01).all()
    wanted = {"residual": "int8_add", "fire": "int8_rescale", "gated": "int8_lookup", "pools": "max_pool2d"}[name]
    assert any(wanted in op for op in called(model)) and any("int8_conv2d" in op for op in called(model))


ALONE = {
    "convolution": lambda: nn.Conv2d(12, 17, 3, 2, 1), "pointwise": lambda: nn.Conv2d(12, 40, 1),
    "depthwise": lambda: nn.Conv2d(12, 12, 3, padding=1, groups=12), "max pool": lambda: nn.MaxPool2d(3, 2),
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(12 * 81, 6)),
}


@pytest.mark.parametrize("name", ALONE)
def test_one_op_alone_gives_what_onnx_runtime_does_on_equal_inputs(name, tmp_path):
    torch.manual_seed(1)
    shape = (1, 12, 9, 9)
    path = write_quantised(from_module(nn.Sequential(ALONE[name]()), shape), tmp_path, random_images(shape).calibration)
    model, rng = load_model(str(path), ()), np.random.default_rng(4)
    images = [rng.standard_normal((1, 12, 9, 9), np.float32) for _ in range(20)]
    theirs = np.concatenate([reference(path, image) for image in images])
    ours = np.concatenate([model.network(torch.from_numpy(image)).detach().numpy() for image in images])
    quantum = np.diff(np.unique(theirs.round(6))).min()
    assert (np.abs(ours - theirs) < 0.01 * quantum).all()


def with_activations(kind: str, folder):
    """The path of a small network whose activations ONNX Runtime quantised to another type; weights are int8."""
    import onnxruntime.quantization as quantization

    model = from_module(nn.Sequential(nn.Conv2d(3, 9, 3), nn.ReLU(), nn.Conv2d(9, 4, 1)), (1, 3, 9, 9))
    source, path = model.as_onnx(folder), folder / f"{kind}.onnx"
    quantization.quantize_static(str(source), str(path), _reader(random_images((1, 3, 9, 9)).calibration, source),
                                 quantization.QuantFormat.QDQ, activation_type=getattr(quantization.QuantType, kind))
    return path


def test_activations_of_int8_compute_what_onnx_runtime_does(tmp_path):
    torch.manual_seed(2)
    path = with_activations("QInt8", tmp_path)
    model, images = load_model(str(path), ()), random_images((1, 3, 9, 9)).compared[:20, None]
    theirs = np.concatenate([reference(path, image) for image in images])
    ours = np.concatenate([model.network(torch.from_numpy(image)).detach().numpy() for image in images])
    quantum = np.diff(np.unique(theirs.round(6))).min()
    assert sum("int8_conv2d" in op for op in called(model)) == 1 and not any("aten.conv2d" in op for op in called(model))
    assert (np.abs(ours - theirs) < 0.01 * quantum).all()


def test_activations_of_other_types_are_refused_by_name(tmp_path):
    with pytest.raises(ModelError, match="uint16.*uint8 or int8 with one scale"):
        load_model(str(with_activations("QUInt16", tmp_path)), ())


def graph_of(nodes: list, constants: dict, path, output: int) -> str:
    """Writes a graph from a float image [1, 3, 8, 8] to "out", a tensor of ONNX's type `output`."""
    import onnx
    from onnx import helper, numpy_helper

    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, (1, 3, 8, 8))
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph([helper.make_node(op, inputs.split(), [result], **named) for op, inputs, result, named in nodes], "graph",
                             [image], [helper.make_tensor_value_info("out", output, None)], held)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return str(path)


ONE_TYPE = {"s": np.array(0.03, "float32"), "z": np.array(9, "int8"), "w": np.random.default_rng(0).integers(
    -127, 128, (5, 6, 1, 1)).astype("int8"), "ws": np.array(0.01, "float32"), "wz": np.array(0, "int8")}


def test_a_concatenation_of_one_type_stays_in_integers_as_nncf_leaves_it(tmp_path):
    path = graph_of([("QuantizeLinear", "image s z", "q", {}), ("DequantizeLinear", "q s z", "real", {}),
                     ("MaxPool", "real", "largest", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
                     ("Concat", "real largest", "both", {"axis": 1}), ("DequantizeLinear", "w ws wz", "weight", {}),
                     ("Conv", "both weight", "out", {})], ONE_TYPE, tmp_path / "concat.onnx", 1)
    model, image = load_model(path, ()), np.random.default_rng(1).standard_normal((1, 3, 8, 8), np.float32)
    assert any("int8_conv2d" in op for op in called(model)) and not any("dequantize" in op for op in called(model))
    np.testing.assert_allclose(model.network(torch.from_numpy(image)).numpy(), reference(path, image), atol=1e-5)


def test_a_graph_that_gives_int8_itself_is_refused(tmp_path):
    path = graph_of([("QuantizeLinear", "image s z", "out", {})], ONE_TYPE, tmp_path / "ends.onnx", 3)
    with pytest.raises(ModelError, match="own input or output is int8"):
        load_model(path, ())


def by_channel(zero_points: list[int]) -> dict:
    """The constants of a pointwise layer, whose results are quantised by channel, and a depthwise one on them."""
    rng = np.random.default_rng(5)
    return {**ONE_TYPE, "w": rng.integers(-127, 128, (4, 3, 1, 1)).astype("int8"), "d": rng.integers(-127, 128, (4, 1, 3, 3)).astype("int8"),
            "cs": np.array([0.02, 0.01, 0.023, 0.004], "float32"), "cz": np.array(zero_points, "uint8"), "six": np.array(6, "float32"),
            "zero": np.array(0, "float32"), "b": np.array([0.3, -0.2, 0.1, 0], "float32")}


SEPARABLE = [("QuantizeLinear", "image s z", "q", {}), ("DequantizeLinear", "q s z", "real", {}),
             ("DequantizeLinear", "w ws wz", "weight", {}), ("Conv", "real weight b", "expanded", {}),
             ("Clip", "expanded zero six", "clipped", {}), ("QuantizeLinear", "clipped cs cz", "steps", {"axis": 1}),
             ("DequantizeLinear", "steps cs cz", "channels", {"axis": 1}), ("DequantizeLinear", "d ws wz", "kernels", {}),
             ("Conv", "channels kernels", "out", {"group": 4, "pads": [1, 1, 1, 1]})]


def test_activations_scaled_by_channel_in_front_of_a_depthwise_convolution_stay_integers_as_nncf_quantises_them(tmp_path):
    path = graph_of(SEPARABLE, by_channel([0] * 4), tmp_path / "separable.onnx", 1)
    model, image = load_model(path, ()), np.random.default_rng(1).standard_normal((1, 3, 8, 8), np.float32)
    assert sum("int8_conv2d" in op for op in called(model)) == 1 and not any("aten.conv2d" in op for op in called(model))
    np.testing.assert_allclose(model.network(torch.from_numpy(image)).numpy(), reference(path, image), atol=1e-5)


def test_activations_of_several_zero_points_are_refused(tmp_path):
    with pytest.raises(ModelError, match="uint8 with 4 scales along axis 1 and 2 zero points"):
        load_model(graph_of(SEPARABLE, by_channel([0, 0, 9, 0]), tmp_path / "separable.onnx", 1), ())
