"""Rows of convolutions along one axis of an image each, dense and depthwise, compile to what they compute, with kernels of their own."""

import pytest

from backends.target import load
from backends.verify import verify
from tests.backends.test_compile import IMAGES, compiled, program

NETWORKS = {  # and how many of their layers are depthwise
    "floats": ("conv-kernel5:16/2 [*=vh_lowrank] conv-kernel5:24/2 [*=cp-rank4] conv:16/1 [*=tucker2-ratio0.5] classifier:5/1", 2),
    "integers": ("conv:16/2 [*=int8] conv:24/2 [*=separable-keep0.3+int8] conv:16/1 [*=cp-rank4+int8] classifier:5/1 [*=int8]", 2),
    "banks": ("conv:8/2 conv:16/2 [*=separable-keep0.4-scheme1-objective_filter] conv:8/1"
              " [*=separable-keep0.4-scheme1-objective_filter+int8] classifier:5/1", 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_factorised_network_compiles_to_what_it_computes(name, tmp_path):
    text, depthwise = NETWORKS[name]
    exported = program(text)
    library, report, _ = compiled(exported, tmp_path)
    checked = verify(exported, library, IMAGES[:20], load("local"), report.joined)
    assert (checked.mismatch, checked.inputs, report.fallback) == ("", 20, 0)
    assert sum(op.algorithm.startswith("depthwise") for op in report.ops) == depthwise
