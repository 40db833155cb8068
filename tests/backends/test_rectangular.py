"""Rows of convolutions along one axis of an image each, dense and depthwise, compile to what they compute, with kernels of their own."""

import pytest

from backends.target import load
from backends.verify import verify
from tests.backends.test_compile import IMAGES, compiled, program

NETWORKS = {
    "floats": "conv-kernel5:16/2 [*=vh_lowrank] conv-kernel5:24/2 [*=cp-rank4] conv:16/1 [*=tucker2-ratio0.5] classifier:5/1",
    "integers": "conv:16/2 [*=int8] conv:24/2 [*=separable-keep0.3+int8] conv:16/1 [*=cp-rank4+int8] classifier:5/1 [*=int8]",
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_factorised_network_compiles_to_what_it_computes(name, tmp_path):
    exported = program(NETWORKS[name])
    library, report, _ = compiled(exported, tmp_path)
    checked = verify(exported, library, IMAGES[:20], load("local"), report.joined)
    assert (checked.mismatch, checked.inputs, report.fallback) == ("", 20, 0)
    assert sum(op.algorithm == "depthwise" for op in report.ops) == 2, "the two in the middle of the four"
