"""Quantised ONNX files of ONNX Runtime's own quantiser: imported onto integer ops, they compute what ONNX Runtime does."""

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.model import ModelError, from_module, load_model
from evaluators.quantised import random_images, write_quantised

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
    """ONNX Runtime's own result, operator by operator."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
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
    quantum = np.diff(np.unique(theirs)).min()
    # One rounding the other way (a half, up or to even; a multiplier's last bit) can move a few later ones.
    assert np.abs(ours - theirs).max() <= 3.01 * quantum and (np.abs(ours - theirs) < 0.01 * quantum).mean() >= 0.5
    wanted = {"residual": "int8_add", "fire": "int8_rescale", "gated": "int8_lookup", "pools": "max_pool2d"}[name]
    assert any(wanted in op for op in called(model)) and any("int8_conv2d" in op for op in called(model))


ALONE = {
    "convolution": lambda: nn.Conv2d(12, 17, 3, 2, 1), "pointwise": lambda: nn.Conv2d(12, 40, 1),
    "depthwise": lambda: nn.Conv2d(12, 12, 3, padding=1, groups=12), "max pool": lambda: nn.MaxPool2d(3, 2),
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(12 * 81, 6)),
}


@pytest.mark.parametrize("name", ALONE)
def test_one_op_alone_is_within_one_quantum_of_onnx_runtime_on_equal_inputs(name, tmp_path):
    torch.manual_seed(1)
    shape = (1, 12, 9, 9)
    path = write_quantised(from_module(nn.Sequential(ALONE[name]()), shape), tmp_path, random_images(shape).calibration)
    model, rng = load_model(str(path), ()), np.random.default_rng(4)
    images = [rng.standard_normal((1, 12, 9, 9), np.float32) for _ in range(20)]
    theirs = np.concatenate([reference(path, image) for image in images])
    ours = np.concatenate([model.network(torch.from_numpy(image)).detach().numpy() for image in images])
    quantum = np.diff(np.unique(theirs.round(6))).min()
    assert np.abs(ours - theirs).max() <= 1.01 * quantum and (np.abs(ours - theirs) < 0.01 * quantum).mean() >= 0.99


def test_activations_that_are_not_uint8_are_refused_by_name(tmp_path):
    import onnxruntime.quantization as quantization

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    model = from_module(network, (1, 3, 9, 9))
    source = model.as_onnx(tmp_path)

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            return next(waiting, None)

    import onnx

    waiting = iter([{onnx.load(source).graph.input[0].name: model.image}])
    path = tmp_path / "int16.onnx"
    quantization.quantize_static(str(source), str(path), Reader(), quantization.QuantFormat.QDQ,
                                 activation_type=quantization.QuantType.QInt8)
    with pytest.raises(ModelError, match="int8.*uint8 with one scale"):
        load_model(str(path), ())
