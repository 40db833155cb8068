"""Evaluators: counts against hand-made ones, bytes against the file, memory against a written-out schedule."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from evaluators.constraint import Constraint
from evaluators.evaluator import COUNTED, evaluators, metrics
from evaluators.macs import Macs
from evaluators.parameters import Parameters
from evaluators.peak_memory import PeakMemory
from evaluators.stored_bytes import StoredBytes
from evaluators.subject import save
from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import coded, prepare
from spaces.freeze import freeze
from spaces.site import Calibration
from spaces.weights import read
from tests.spaces.test_blocks import mobilenet


def subject(text: str, shape=(3, 16, 16)):
    """A frozen network as evaluators see it."""
    torch.manual_seed(0)
    candidate, images = Candidate.parse(text), torch.randn(16, *shape)

    def warm(network):
        network.train()
        with torch.no_grad():
            [network(images) for _ in range(5)]
    network = build(candidate, shape)
    if any(layer.compressions for layer in candidate.layers):
        warm(network)
        network = prepare(network, candidate.chains, Calibration.unlabelled(images[:2]), warm)
    frozen = freeze(network)
    return SimpleNamespace(network=frozen, program=torch.export.export(frozen, (images[:1],)), coded=coded(candidate.chains))


@pytest.mark.parametrize("evaluator", evaluators(), ids=lambda e: e.METRIC)
def test_every_evaluator_says_what_it_measures(evaluator):
    assert evaluator.DIRECTION in ("minimize", "maximize") and evaluator.__doc__ and evaluator.STAGE in (0, 1, 2)
    assert metrics()[evaluator.METRIC].doc
    if evaluator.UNIT:
        assert evaluator.METRIC.endswith({"ms": "_ms", "B": "bytes"}[evaluator.UNIT])


def test_mobilenet_has_its_published_operations():
    """[54]: 568,740,352 multiply-accumulates at 224x224, 4,867,293,184 for the twin of standard convolutions."""
    assert Macs().evaluate(subject(mobilenet(1), (3, 224, 224)))["macs"] == 568_740_352
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    twin = f"conv:32/2 {' '.join(f'conv:{w}/{s}' for w, s in plan)} classifier:1000/1"
    assert Macs().evaluate(subject(twin, (3, 224, 224)))["macs"] == 4_867_293_184


def test_counts_are_of_the_network_as_built():
    dense = subject("conv:8/1 conv:16/1 classifier:5/1")
    pruned = subject("conv:8/1 [*=l1_filters] conv:16/1 classifier:5/1")
    first, second, head = 3 * 9 * 8, 8 * 9 * 16, 16 * 5
    assert Macs().evaluate(dense)["macs"] == 256 * (first + second) + head
    assert Macs().evaluate(pruned)["macs"] == 256 * (first // 2 + second // 2) + head
    assert Parameters().evaluate(dense)["parameters"] == first + 8 + second + 16 + head + 5
    assert Parameters().evaluate(pruned)["parameters"] == first // 2 + 4 + second // 2 + 16 + head + 5


def test_packed_signs_are_counted_one_by_one():
    dense, signs = (subject(f"conv:12/1 conv:16/1 [*={chain}] classifier:5/1 [*={chain}]") for chain in ("none", "xnor"))
    assert Macs().evaluate(signs) == Macs().evaluate(dense)
    assert Parameters().evaluate(signs) == Parameters().evaluate(dense)


def test_low_rank_counts_are_of_both_factors():
    low = subject("conv:8/1 conv-kernel1:32/1 [*=svd-rank3] classifier:5/1")
    assert Macs().evaluate(low)["macs"] == 256 * (3 * 9 * 8 + 8 * 3 + 3 * 32) + 32 * 5


@pytest.mark.parametrize("text", ["conv:8/1 conv:16/2 classifier:5/1",
                                  "conv:8/1 [*=int8] fire:16/1 [*=magnitude-keep0.3+int8] classifier:5/1 [*=magnitude]",
                                  "conv:32/1 [*=codebook-bits3+huffman] fire:16/1 [*=magnitude-keep0.3+codebook+huffman]"
                                  " conv:64/1 [*=product_quantised] classifier:5/1 [*=int8+huffman]",
                                  "conv:32/1 [*=hashed] conv:64/1 [*=svd-rank3+hashed-keep0.25+huffman] classifier:5/1"])
def test_stored_bytes_are_the_payload_of_the_files_and_reading_them_back_gives_the_same(text, tmp_path):
    given = subject(text)
    save(given.network, given.program, Candidate.parse(text), tmp_path)
    files = [tmp_path / name for name in ("weights.safetensors", "weights.nw") if (tmp_path / name).exists()]
    assert ("huffman" in text) == (len(files) == 2)
    payload = sum(len(data) - 8 - int.from_bytes(data[:8], "little") for data in map(Path.read_bytes, files))
    assert StoredBytes().evaluate(given)["stored_bytes"] == payload
    x = torch.randn(2, 3, 16, 16)
    before = given.network(x)
    given.network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in read(tmp_path).items()})
    assert torch.equal(given.network(x), before)


def test_int8_stores_a_byte_a_weight_and_eight_an_output():
    state = subject("conv:8/1 [*=int8] classifier:5/1")
    assert StoredBytes().evaluate(state)["stored_bytes"] == 3 * 9 * 8 + 8 * 8 + 4 * (8 * 5 + 5)


def test_a_bitmap_stores_a_bit_a_weight_and_the_kept_values():
    state = subject("conv:8/1 [*=magnitude-keep0.25] classifier:5/1")
    weights = 3 * 9 * 8
    assert StoredBytes().evaluate(state)["stored_bytes"] == weights // 8 + weights + 4 * 8 + 4 * (8 * 5 + 5)


def test_peak_memory_of_a_residual_holds_the_shortcut():
    """Alive together at the depthwise convolution: the shortcut and both expanded maps."""
    given = subject("conv:8/1 mbconv-expand4:8/1 classifier:5/1")
    image = 4 * 16 * 16
    assert PeakMemory().evaluate(given)["peak_memory_bytes"] == image * (8 + 32 + 32)


def test_peak_memory_counts_integers_as_bytes():
    floats, integers = (PeakMemory().evaluate(subject(f"conv:8/1 [*={m}] conv:64/1 [*={m}] conv:8/1 [*={m}] classifier:5/1"))
                        for m in ("none", "int8"))
    assert floats["peak_memory_bytes"] == 4 * 256 * (64 + 8)
    assert integers["peak_memory_bytes"] == 256 * (64 + 4 * 8)


@pytest.mark.parametrize("text, metrics_, broken", [
    ("latency_ms <= 2.0", {"latency_ms": 2.1}, True), ("latency_ms <= 2.0", {"latency_ms": 2.0}, False),
    ("accuracy >= 0.9", {"accuracy": 0.89}, True), ("stored_bytes <= 250_000", {"stored_bytes": 250_000}, False)])
def test_constraints_hold_up_to_their_limit(text, metrics_, broken):
    violation = Constraint.parse(text).violation(metrics_)
    assert (violation > 0) == broken and math.isfinite(violation)


@pytest.mark.parametrize("text", ["latency_ms", "latency_ms < 2", "<= 2", "a <= b", "a <= 1 2"])
def test_a_bad_constraint_shows_the_form(text):
    with pytest.raises(ValueError, match="latency_ms <= 2.0"):
        Constraint.parse(text)


def test_cheap_evaluators_come_first():
    stages = [evaluator.STAGE for evaluator in evaluators()]
    assert stages == sorted(stages) and stages[0] == COUNTED
