"""Compiling, verifying and measuring whole networks, and refusing wrong ones."""

import dataclasses

import numpy as np
import pytest
import torch

from backends.compile import compile_program
from backends.library import Library
from backends.measure import measure, median_interval
from backends.target import MeasurePolicy, TargetError, describe, load, names, reached
from backends.verify import verify
from backends.workload import CompileError
from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import prepare
from spaces.freeze import freeze
from spaces.gene import parse
from spaces.site import Calibration
from tests.spaces.shortcut import SHAPE, Shortcut, integers

POLICY = MeasurePolicy(1.0, 0.2, 15, 20, 1.0, 0.05)
NETWORKS = {
    "float": "conv:12/1 fire-norm_batch-squeeze0.25:20/2 mbconv-expand3-se0.25:20/1 depthwise_separable:24/2 classifier:5/1",
    "mixed": "conv:12/1 [*=int8] fire-norm_batch-squeeze0.25:20/2 [*=magnitude-keep0.3+int8] mbconv-expand3:20/1 [*=int8]"
             " skip:20/2 classifier:5/1 [dense=svd-rank2+int8]",
    "signs": "conv:37/1 fire-norm_batch-squeeze0.5:40/2 [*=xnor] mbconv-expand3:40/1 [expand=xnor project=int8]"
             " conv:24/2 [*=int8] conv:24/1 [*=xnor] classifier:5/1 [*=xnor]",
    "sparse": "conv:16/1 [*=magnitude-keep0.3] conv-kernel1:40/2 [*=block_sparse-keep0.2] conv:24/1 [*=magnitude-keep0.3+codebook]"
              " classifier:5/1 [*=codebook-bits4]",
    "structured": "conv:16/1 mbconv-expand6:16/1 [expand=kronecker project=circulant] conv-kernel1:64/2 [*=tensor_train]"
                  " classifier:5/1 [*=circulant-block5]",
    "levels": "conv:16/1 [*=ttq] mbconv-expand3:16/1 [expand=binary_connect depthwise=inq-bits3 project=dorefa-weights2-activations8]"
              " conv:24/2 [*=inq] conv:24/1 [*=dorefa] classifier:5/1 [*=ttq]",
}


def program(text: str, shape=(3, 15, 15)):
    """An exported network with random weights and real activation ranges."""
    torch.manual_seed(0)
    candidate, images = Candidate.parse(text), torch.randn(32, *shape)

    def warm(network):
        network.train()
        with torch.no_grad():
            [network(images) for _ in range(5)]
    network = build(candidate, shape)
    warm(network)
    return torch.export.export(freeze(prepare(network, candidate.chains, Calibration.unlabelled(images[:2]), warm)), (images[:1],))


def compiled(exported, folder):
    """The library of an exported network and the compiler's report."""
    report = compile_program(exported, load("local"), folder / "model.so")
    weights = {name: tensor.detach().numpy() for name, tensor in exported.state_dict.items()}
    return Library(folder / "model.so", report.parameters, weights), report, weights


IMAGES = np.random.default_rng(0).standard_normal((100, 3, 15, 15), dtype=np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_compiles_to_what_it_computes_and_every_op_has_a_kernel(name, tmp_path):
    exported = program(NETWORKS[name])
    library, report, _ = compiled(exported, tmp_path)
    checked = verify(exported, library, IMAGES, load("local"), report.joined)
    assert checked.mismatch == "" and checked.inputs == 100
    assert checked.kind == ("float" if name in ("float", "sparse", "structured") else "mixed")
    called = [n for n in exported.graph.nodes if n.op == "call_function" and "flatten" not in str(n.target)]
    joined = sum(1 for n in called if "cat" in str(n.target))  # written in place by the kernels of its operands
    assert sum(1 + len(op.steps) for op in report.ops) + joined + len(report.joined) == len(called)
    assert checked.ops == len({op.node for op in report.ops}) and all(op.algorithm and op.us > 0 for op in report.ops)


def test_an_all_integer_network_is_exact(tmp_path):
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 5, 1), torch.nn.Flatten())
    for index in (0, 2):
        layers[index] = parse("compression", "int8").prepare(layers[index])
    layers.train()
    layers(torch.randn(64, 3, 3, 3))
    exported = torch.export.export(freeze(layers), (torch.randn(1, 3, 3, 3),))
    library, report, _ = compiled(exported, tmp_path)
    images = np.random.default_rng(1).standard_normal((50, 3, 3, 3), dtype=np.float32)
    checked = verify(exported, library, images, load("local"), report.joined)
    assert (checked.kind, checked.mismatch, checked.largest_error) == ("integer", "", 0.0)


@pytest.mark.parametrize("kind", ["float", "integer"])
def test_a_shortcut_of_picked_pixels_among_zeros_has_kernels_in_floats_and_in_integers(kind, tmp_path):
    torch.manual_seed(0)
    images = np.random.default_rng(2).standard_normal((20, *SHAPE), dtype=np.float32)

    def warm(network):
        network.train()(torch.from_numpy(images))
    network = freeze(Shortcut(0.0)) if kind == "float" else integers(Shortcut(0.0), warm)[1]
    exported = torch.export.export(network, (torch.from_numpy(images[:1]),))
    library, report, _ = compiled(exported, tmp_path)
    checked = verify(exported, library, images, load("local"), report.joined)
    assert (checked.kind, checked.mismatch, report.fallback) == (kind, "", 0)
    assert any("constant_pad_nd" in op.op for op in report.ops)


def test_a_library_with_other_weights_is_caught(tmp_path):
    exported = program(NETWORKS["float"])
    _, report, weights = compiled(exported, tmp_path)
    wrong = {**weights, "layers.0.conv.weight": weights["layers.0.conv.weight"] * 1.5}
    checked = verify(exported, Library(tmp_path / "model.so", report.parameters, wrong), IMAGES, load("local"), report.joined)
    assert "differs from its reference" in checked.mismatch


def test_one_wrong_op_is_named(tmp_path, monkeypatch):
    exported = program(NETWORKS["mixed"])
    library, report, _ = compiled(exported, tmp_path)
    whole = library.run_op
    monkeypatch.setattr(library, "run_op", lambda node, inputs: whole(node, inputs) ^ 1 if node == "int8_conv2d_1"
                        else whole(node, inputs))
    checked = verify(exported, library, IMAGES[:10], load("local"), report.joined)
    assert checked.mismatch.startswith("op int8_conv2d_1 differs")


def test_an_op_that_nobody_can_lower_is_named(tmp_path):
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.erfinv(x)
    with pytest.raises(CompileError, match="erfinv"):
        compile_program(torch.export.export(Odd(), (torch.zeros(1, 4),)), load("local"), tmp_path / "m.so")


def test_an_op_without_a_kernel_file_is_counted_as_fallback_and_computes_what_torch_does(tmp_path):
    class Tanh(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 1)

        def forward(self, x):
            y = torch.tanh(self.first(x))
            return self.second(torch.cat([y, y], 1)[:, :8]).flatten(1)
    exported = torch.export.export(Tanh(), (torch.randn(1, 3, 9, 9),))
    library, report, _ = compiled(exported, tmp_path)
    image = np.random.default_rng(0).standard_normal((1, 3, 9, 9), dtype=np.float32)
    assert report.fallback == sum(op.algorithm == "fallback" for op in report.ops) >= 2
    assert verify(exported, library, image, load("local"), report.joined).mismatch == ""


def test_weights_are_not_in_the_library(tmp_path):
    exported = program(NETWORKS["float"])
    compiled(exported, tmp_path)
    data = (tmp_path / "model.so").read_bytes()
    assert exported.state_dict["layers.1.expand3x3.weight"].numpy().tobytes() not in data


def test_a_measurement_holds_its_samples_and_an_interval_around_the_median(tmp_path):
    library, _, _ = compiled(program(NETWORKS["float"]), tmp_path)
    measured = measure(library, IMAGES[:1], POLICY)
    assert 15 <= len(measured.samples_ms) <= 20 and min(measured.samples_ms) > 0
    low, high = measured.interval_ms
    assert low <= measured.latency_ms <= high and measured.drift > 0 and measured.runs >= 1


def test_the_interval_covers_the_median_of_a_skewed_distribution_19_times_in_20():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        low, high = median_interval(rng.exponential(1.0, 31))
        covered += low <= np.log(2) <= high
    assert 0.93 <= covered / 2000 <= 0.99


@pytest.mark.parametrize("name", names())
def test_every_target_loads_and_says_what_it_is(name):
    target = load(name)
    assert describe(name) and target.lanes in (4, 8, 16) and target.threads >= 1
    assert dataclasses.asdict(target.measure).keys() == POLICY.__dataclass_fields__.keys()


def test_a_target_without_connection_is_not_measured():
    with pytest.raises(TargetError, match="raspberry-pi-4: compiled for, not reached"):
        reached("raspberry-pi-4")
    assert reached("local") == load("local")


def test_an_unknown_target_or_key_is_named(tmp_path):
    with pytest.raises(TargetError, match="'lokal'; known: .*local"):
        load("lokal")
    import backends.target as module
    text = (module.FOLDER / "local.toml").read_text()
    for number, (old, new, words) in enumerate([("threads = 1", 'threads = "one"', "threads is 'one'"),
                                                ("threads = 1", "threads = 1\ncores = 2", "'cores'"),
                                                ("sample_ms = 2.0", "", "measure"), ("kind =", "kind", "target")]):
        path = tmp_path / f"target{number}.toml"
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(TargetError, match=words):
            load(str(path))


def test_a_portable_target_without_vnni_multiplies_words_in_pairs(tmp_path):
    import backends.target as module
    path = tmp_path / "plain.toml"
    path.write_text((module.FOLDER / "local.toml").read_text().replace('"native"', '"x86-64-v3"'))
    target = load(str(path))
    exported = program(NETWORKS["mixed"])
    report = compile_program(exported, target, tmp_path / "model.so")
    assert target.lanes == 8
    assert {op.algorithm for op in report.ops if op.op.startswith("int8")} <= {"dot", "dot_rows", "depthwise"}
    weights = {name: tensor.detach().numpy() for name, tensor in exported.state_dict.items()}
    library = Library(tmp_path / "model.so", report.parameters, weights)
    assert verify(exported, library, IMAGES, load("local"), report.joined).mismatch == ""
