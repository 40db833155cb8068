"""The page that shows how a compression method is added: its file, put beside the others, is a method like them."""

import re
from pathlib import Path

import pytest
import torch

import spaces.compression
from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import prepare
from spaces.freeze import freeze
from spaces.gene import SpaceError, names
from spaces.site import Calibration
from spaces.space import Space

PAGE = (Path(spaces.compression.__path__[0]) / "README.md").read_text()
SHAPE = (3, 8, 8)


def block(language: str) -> str:
    """The page's only block in a language."""
    found, = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


@pytest.fixture
def added(tmp_path, monkeypatch):
    """The example's file in a folder of its own, which the methods are looked for in, too."""
    (tmp_path / "zero_maps.py").write_text(block("python"))
    monkeypatch.setattr(spaces.compression, "__path__", [*spaces.compression.__path__, str(tmp_path)])


def test_the_example_is_listed_and_removes_what_is_zero_most_often(added, warm):
    assert "zero_maps" in names("compression")
    torch.manual_seed(0)
    candidate = Candidate.parse("conv:8/1 fire-norm_batch:16/2 [squeeze=zero_maps expand3x3=zero_maps-keep0.75+int8] classifier:5/1")
    network = build(candidate, SHAPE)
    warm(SHAPE)(network)
    network.layers[1].squeeze_norm.bias.data[:] = torch.tensor([3.0, -3.0])
    before = network.layers[1].squeeze.weight.detach().clone()
    graph = prepare(network, candidate.chains, Calibration.unlabelled(torch.randn(32, *SHAPE)), warm(SHAPE))
    shrunk = graph.get_submodule("layers.1.squeeze").weight
    assert shrunk.shape[0] == 1 and graph.get_submodule("layers.1.expand3x3").layer.out_channels == 6
    factors = (shrunk[0] / before[0]).flatten()
    torch.testing.assert_close(factors, factors[:1].expand_as(factors), rtol=1e-4, atol=1e-5)
    assert freeze(graph)(torch.randn(2, *SHAPE)).shape == (2, 5)


def test_a_study_may_offer_it_as_the_page_does(added):
    import tomllib

    table = tomllib.loads(block("toml"))["space"]["compression"]
    space = Space.from_tables([{"width": 8, "blocks": [{"name": "conv"}, {"name": "mbconv", "expand": 2}]}], {}, table, [], 5)
    assert any("zero_maps-keep0.75+int8" in options for options in space.choices.values())


def test_where_it_cannot_work_the_layer_is_named(added, warm):
    candidate = Candidate.parse("conv:8/1 mbconv-expand2:16/1 [project=zero_maps] classifier:5/1")
    network = build(candidate, SHAPE)
    warm(SHAPE)(network)
    with pytest.raises(SpaceError, match="layers.1.project: zero_maps: no output is ever zero"):
        prepare(network, candidate.chains, Calibration.unlabelled(torch.randn(4, *SHAPE)), warm(SHAPE))
