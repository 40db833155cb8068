"""Measuring a network by name, beside other runtimes."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from backends.target import MeasurePolicy, load
from evaluators import compare, peers
from evaluators.measured import measure_model, measured
from evaluators.model import ModelError, from_module, load_model

TARGET = replace(load("local"), measure=MeasurePolicy(1.0, 0.2, 6, 8, 0.2, 0.05))
MODULE = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 9, 3, 2, 1), nn.BatchNorm2d(9), nn.Linear(9, 7)

    def forward(self, x):
        return self.second(torch.relu(self.norm(self.first(x))).mean((2, 3)))

def odd():
    torch.manual_seed(0)
    return Odd()
"""


@pytest.fixture
def quick(monkeypatch):
    """Shorter timing."""
    monkeypatch.setattr(compare, "WARM_UP_S", 0.01)
    monkeypatch.setattr(compare, "SAMPLE_S", 0.001)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A user's module on the path."""
    (tmp_path / "users_network.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "users_network:odd"
    sys.modules.pop("users_network", None)


def test_a_function_s_network_is_compiled_compared_with_torch_and_timed(quick, module):
    result = measure_model(module, (1, 3, 17, 13), TARGET, ["torch"], False)
    low, high = result["interval_ms"]
    assert low <= result["latency_ms"] <= high and len(result["samples_ms"]) >= 15
    assert result["error"] < 1e-4 and result["fallback"] == sum(op["kernel"] == "fallback" for op in result["ops"])
    peer = result["peers"]["torch"]
    assert peer["latency_ms"] > 0 and peer["ratio_interval"][0] <= peer["ratio"] <= peer["ratio_interval"][1]
    assert result["ops"][0]["op"] == "conv2d+relu" and result["ops"][0]["us"] > 0


@pytest.mark.parametrize("peer", [name for name in peers.names() if name != "torch"])
def test_other_runtimes_give_torch_s_outputs(peer, quick):
    pytest.importorskip(peer)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    result = measured(from_module(network, (1, 3, 9, 9)), TARGET, [peer])
    assert result["peers"][peer]["error"] < 1e-4 and result["peers"][peer]["ratio"] > 0


def test_a_candidate_is_measured_with_its_compressions_in_place(quick):
    result = measure_model("conv:8/2 [*=int8] classifier:4/1 [*=intn]", (1, 3, 9, 9), TARGET, ["torch"], False)
    assert [op["op"].split("+")[0] for op in result["ops"]][:2] == ["quantize", "int8_conv2d"]
    assert result["error"] < 1e-6 and "int8_linear" in result["ops"][-1]["op"]


def test_a_compressed_candidate_has_no_onnx_form_and_says_so():
    with pytest.raises(ModelError, match="operations that ONNX has not.*leave onnxruntime and openvino out"):
        measure_model("conv:8/2 [*=int8] classifier:4/1", (1, 3, 9, 9), TARGET, ["onnxruntime"], False)


class Everything(nn.Module):
    """Most of what an image classifier's ONNX file holds."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.depthwise = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 5, 1, 2, groups=8)
        self.reduce, self.excite, self.dense = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.Linear(16, 6)

    def forward(self, x):
        x = nn.functional.hardswish(self.norm(self.stem(x)))
        y = nn.functional.relu6(self.depthwise(x))
        gate = torch.sigmoid(self.excite(torch.relu(self.reduce(y.mean((2, 3), keepdim=True)))))
        y = x + y * nn.functional.hardsigmoid(gate)
        y = torch.cat([nn.functional.max_pool2d(y, 3, 2, 1), nn.functional.avg_pool2d(y, 3, 2, 1)], 1)
        return torch.softmax(self.dense(nn.functional.adaptive_avg_pool2d(y, 1).flatten(1)), -1)


def test_an_onnx_file_computes_what_the_module_did_that_it_was_written_from(tmp_path, quick):
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network = Everything().eval()
    path, image = tmp_path / "model.onnx", torch.randn(1, 3, 15, 15)
    torch.onnx.export(network, (image,), path, dynamo=True, verbose=False)
    model = load_model(str(path), ())
    assert torch.allclose(model.network(image), network(image), atol=1e-5)
    result = measured(model, TARGET, [])
    assert result["error"] < 1e-4 and result["fallback"] == 0


def test_a_program_with_an_open_batch_is_measured_for_one_image(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(100, 5)).eval()
    dims = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network, (torch.randn(2, 3, 7, 7),), dynamic_shapes=dims), tmp_path / "model.pt2")
    model = load_model(str(tmp_path / "model.pt2"), ())
    assert model.image.shape == (1, 3, 7, 7)
    shapes = [node.meta["val"].shape for node in model.program.graph.nodes if "val" in node.meta]
    assert shapes and all(isinstance(side, int) for shape in shapes for side in shape)


def test_a_pt2_file_and_a_candidate_are_read(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6()).eval()
    torch.export.save(torch.export.export(network, (torch.randn(1, 3, 7, 7),)), tmp_path / "model.pt2")
    model = load_model(str(tmp_path / "model.pt2"), ())
    assert model.image.shape == (1, 3, 7, 7) and not any("norm" in str(n.target) for n in model.program.graph.nodes)
    candidate = load_model("conv:8/2 classifier:10/1", (1, 3, 16, 16))
    assert candidate.network(torch.from_numpy(candidate.image)).shape == (1, 10)


@pytest.mark.parametrize("text, words", [
    ("nothing.onnx", "nothing.onnx: no such file"), ("nothing.pt2", "no such file"), ("what", "is no model"),
    ("no_such_module:f", "no_such_module"), ("math:no_such", "no_such"), ("resnet20@big", "'big' is no whole number"),
])
def test_a_model_that_cannot_be_read_is_named(text, words):
    with pytest.raises(ModelError, match=words):
        load_model(text, (1, 3, 8, 8))


def test_a_broken_onnx_file_is_named(tmp_path):
    pytest.importorskip("onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not a model at all")
    with pytest.raises(ModelError, match="broken.onnx"):
        load_model(str(tmp_path / "broken.onnx"), ())


def test_an_unknown_runtime_is_named():
    with pytest.raises(peers.PeerError, match="'tensorrt'; known: onnxruntime, openvino, torch"):
        peers.check(["tensorrt"])


def test_runtimes_take_turns_and_ratios_are_taken_within_rounds(quick):
    calls = []
    timings = compare.in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=6)
    assert {len(t.samples_ms) for t in timings.values()} == {6}
    ratio = timings["a"].ratio(timings["b"])
    assert ratio["ratio"] == pytest.approx(np.median(np.divide(timings["a"].samples_ms, timings["b"].samples_ms)))
