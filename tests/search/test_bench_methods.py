"""What `netwright bench methods` computes, on networks and data that take seconds."""

import json
from pathlib import Path

import pytest
import torch

from backends.target import load
from search.bench import methods
from spaces.build import build
from spaces.candidate import Candidate
from spaces.freeze import freeze
from spaces.gene import names, parse

ROOT = Path(__file__).parents[2]


def test_every_method_is_tried_and_only_on_layers_that_it_fits():
    tried = {token.partition("-")[0] for token in methods.settings()}
    assert set(names("compression")) <= tried
    for token in methods.settings():
        methods.candidate_of(token)  # SpaceError if one does not fit


def test_the_first_and_the_last_layer_stay_as_they_are_where_a_method_fits_others():
    chains = [layer.compressions for layer in methods.candidate_of("int8").layers]
    assert not chains[0] and not chains[-1] and all(chains[1:-1])


def test_multiplications_by_zeros_do_not_count():
    torch.manual_seed(0)
    network = build(Candidate.parse("conv:4/1 depthwise_separable:6/2 classifier:5/1"), (3, 8, 8)).eval()
    full = 64 * 4 * 27 + 16 * 4 * 9 + 16 * 6 * 4 + 6 * 5
    assert methods.multiplications(freeze(network), torch.randn(1, 3, 8, 8)) == full
    pruned = parse("compression", "magnitude-keep0.25").prepare(network.get_submodule("layers.1.pointwise"))
    network.set_submodule("layers.1.pointwise", pruned)
    assert methods.multiplications(freeze(network), torch.randn(1, 3, 8, 8)) == full - 16 * 18


@pytest.mark.slow
def test_each_setting_has_its_figures_or_a_reason_and_nothing_is_computed_twice(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(methods, "STUDY", ROOT / "studies" / "digits.toml")
    monkeypatch.setattr(methods, "FOLDER", tmp_path / "bench")
    monkeypatch.setattr(methods, "EPOCHS", 4)
    monkeypatch.setattr(methods, "LAYERS", ("conv:8/1", "fire-norm_batch:16/2", "classifier:10/1"))
    monkeypatch.setattr(methods, "settings", lambda: ["magnitude-keep0.1", "int8", "l1_filters", "svd-rank2"])
    first = methods.run(load("local"))
    rows = first["methods"]
    assert rows["magnitude-keep0.1"]["times_promised"] > 1.2 and rows["int8"]["times_smaller"] > 1.2 and rows["l1_filters"]["times_faster"] > 0
    assert 0.5 < first["none"]["accuracy"] <= 1 and all("refused" not in row for row in rows.values()), rows
    monkeypatch.setattr(methods._Bench, "deployed", None)
    first = json.loads(json.dumps(first))
    assert json.loads(json.dumps(methods.run(load("local")))) == first
    methods.show(first)
    assert "times promised" in capsys.readouterr().out
