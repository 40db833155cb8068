"""Residual sums and means between integer layers: which become integers, and that they train as they are deployed."""

import pytest
import torch
from torch import nn

from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import prepare
from spaces.freeze import freeze
from spaces.site import Calibration
from tests.spaces.shortcut import Shortcut, integers

SHAPE = (3, 12, 12)


def frozen(text: str, warm):
    """The trained network and its deployed form."""
    torch.manual_seed(0)
    candidate = Candidate.parse(text)
    network = build(candidate, SHAPE)
    warm(SHAPE)(network)
    graph = prepare(network, candidate.chains, Calibration.unlabelled(torch.randn(2, *SHAPE)), warm(SHAPE))
    return graph, freeze(graph)


def ops(graph) -> list[str]:
    """The names of the functions that a deployed network calls."""
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


INTEGER = ["mbconv-expand3:16/1 [*=int8] mbconv-expand3:16/1 [*=int8]", "fire-bypass_simple:16/1 [*=int8]",
           "fire-bypass_complex:24/1 [*=int8]", "mbconv-expand3:16/1 [*=intn-bits5] fire-bypass_simple:16/2 [*=int8]"]


@pytest.mark.parametrize("blocks", INTEGER)
def test_an_integer_network_is_integers_from_the_image_to_the_logits(blocks, warm):
    trained, deployed = frozen(f"conv:16/1 [*=int8] {blocks} classifier:5/1 [*=int8]", warm)
    called = ops(deployed)
    assert sum("quantize" in op for op in called) == 1, called
    assert not any("dequantize" in op or op.startswith("<built-in function add") for op in called)
    x = torch.randn(64, *SHAPE)
    with torch.no_grad():
        expected = trained.eval()(x)
    torch.testing.assert_close(deployed(x), expected, rtol=0, atol=0.02 * float(expected.abs().max()))


def test_a_sum_with_an_operand_in_float_stays_in_float(warm):
    _, deployed = frozen("conv:16/1 [*=int8] mbconv-expand3:16/1 [expand=int8] classifier:5/1", warm)
    assert not any("int8_add" in op for op in ops(deployed))


def test_a_sum_that_a_float_layer_reads_too_stays_in_float(warm):
    trained, deployed = frozen("conv:16/1 [*=int8] mbconv-expand3:16/1 [*=int8] classifier:5/1", warm)
    assert not any("int8_add" in op for op in ops(deployed))
    x = torch.randn(8, *SHAPE)
    with torch.no_grad():
        expected = trained.eval()(x)
    torch.testing.assert_close(deployed(x), expected, rtol=0, atol=0.02 * float(expected.abs().max()))


def test_a_shortcut_of_picked_pixels_among_zeros_is_integers_and_leaves_the_trained_network_as_it_was(warm):
    torch.manual_seed(0)
    trained, deployed = integers(Shortcut(0.0), warm(SHAPE))
    called, x = ops(deployed), torch.randn(64, *SHAPE)
    assert sum("quantize" in op for op in called) == 1, called
    assert sum("int8_add" in op for op in called) == 1 and not any("dequantize" in op for op in called)
    assert not any(isinstance(module, nn.ConstantPad3d) for module in deployed.modules())
    assert trained.pad.value == 0 and isinstance(trained.pad, nn.ConstantPad3d)
    with torch.no_grad():
        expected = trained.eval()(x)
    torch.testing.assert_close(deployed(x), expected, rtol=0, atol=0.02 * float(expected.abs().max()))


def test_a_shortcut_among_other_numbers_stays_in_float(warm):
    trained, deployed = integers(Shortcut(0.5), warm(SHAPE))
    assert not any("int8_add" in op for op in ops(deployed)) and isinstance(deployed.pad, nn.ConstantPad3d)
    x = torch.randn(64, *SHAPE)
    with torch.no_grad():
        expected = trained.eval()(x)
    torch.testing.assert_close(deployed(x), expected, rtol=0, atol=0.02 * float(expected.abs().max()))


def test_zeros_around_integers_are_their_zero_point_to_the_bit(warm, monkeypatch):
    torch.manual_seed(0)
    network = nn.Sequential(nn.ConstantPad3d((0, 1, 2, 1, 1, 0), 0.0), nn.Conv2d(4, 5, 3))
    trained, deployed = integers(network, warm(SHAPE))
    quantise, pad = (node for node in deployed.graph.nodes if node.op == "call_function" and "conv" not in str(node.target))
    assert pad.target is nn.functional.pad and pad.args[3] == quantise.args[2] != 0
    monkeypatch.setattr("spaces.freeze._hoist", lambda plan: None)
    behind, x = freeze(trained), torch.randn(8, *SHAPE)
    assert isinstance(behind.get_submodule("0"), nn.ConstantPad3d)
    torch.testing.assert_close(deployed(x), behind(x), rtol=0, atol=0)


def test_layers_of_one_type_before_and_behind_a_pad_share_its_step(warm):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.pool, self.pad = nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.ConstantPad2d((0, 1, 0, 1), 0.0)
            self.plain, self.padded, self.flatten = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 2), nn.Flatten()

        def forward(self, x):
            x = self.pool(self.first(x))
            return self.flatten(torch.cat([self.plain(x), self.padded(self.pad(x))], 1))
    torch.manual_seed(0)
    trained, deployed = integers(Both(), warm(SHAPE))
    assert sum("quantize" in op for op in ops(deployed)) == 1, ops(deployed)
    x = torch.randn(8, *SHAPE)
    with torch.no_grad():
        expected = trained.eval()(x)
    torch.testing.assert_close(deployed(x), expected, rtol=0, atol=0.02 * float(expected.abs().max()))
