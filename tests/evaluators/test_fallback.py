"""No op of the zoo or of any block falls back to a kernel that is not ours."""

import pytest

from backends.fusion import groups_of
from backends.graph import read
from backends.lowering import served_on
from backends.target import load
from evaluators.model import load_model
from spaces import zoo
from spaces.gene import load as load_gene
from tests.by_name import BLOCKS


def unserved(text: str, shape=(1, 3, 32, 32)) -> list[str]:
    """The ops of a network that no kernel file serves."""
    graph = read(load_model(text, shape).program, served_on(load("local")))
    return [group.name for group in groups_of(graph) if group.unserved]


@pytest.mark.parametrize("name", zoo.names())
def test_every_op_of_a_published_network_has_a_kernel(name):
    assert unserved(f"{name}@32") == []


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", BLOCKS)
def test_every_op_of_a_block_has_a_kernel(name, stride):
    block = load_gene("blocks", name)
    if block.HEAD:
        text = f"conv:12/{stride} {name}:10/1"
    else:
        text = f"conv:24/1 {name}:{24 if block.KEEPS_WIDTH else 40}/{stride} classifier:10/1"
    assert unserved(text) == []


@pytest.mark.parametrize("token", ["mbconv-kernel5-se0.25", "fire-bypass_complex-norm_batch", "fire-bypass_simple", "conv-kernel7",
                                   "conv-kernel1-norm_none", "depthwise_separable-kernel7"])
def test_every_op_of_a_block_s_variants_has_a_kernel(token):
    assert unserved(f"conv:24/1 {token}:24/1 classifier:10/1") == []
