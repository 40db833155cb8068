"""`netwright compress`: a network of the user's becomes a study, which runs, is resumed, and ends in a front of its compressions."""

import json
import tomllib
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.sensitivity import Effect, Sensitivity
from search import compress
from search.study_file import StudyError, of_table
from spaces.candidate import Layer, parse_chain
from spaces.gene import parse
from tests.search.test_cli import netwright, refused

ROOT = Path(__file__).parents[2]
CODE = '''
from torch import nn


def small():
    return nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 1, 1, bias=False),
                         nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
'''
QUICK = ("--set", "study.trials=6", "--set", "model.epochs=2", "--set", "train.finetune_epochs=1", "--set", "train.learning_rate=0.2",
         "--set", "train.batch=32", "--set", 'space.compression={"*"=["none", "int8+huffman", "l1_filters-keep0.5"]}', "--set",
         "data.augment=[]")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the user's code, weights and the digits as an .npz file, and a cache of its own."""
    from sklearn.datasets import load_digits

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mine.py").write_text(CODE)
    digits = load_digits()
    images, labels = (digits.images * 15.9).astype(np.uint8), digits.target
    np.savez(tmp_path / "digits.npz", x_train=images[:1200], y_train=labels[:1200], x_test=images[1200:], y_test=labels[1200:])
    space: dict = {}
    exec(CODE, space)
    torch.manual_seed(0)
    torch.save(space["small"]().state_dict(), tmp_path / "small.pt")
    return tmp_path


def test_a_network_becomes_a_study_that_can_be_resumed_without_its_code_and_exported(place):
    done = netwright("compress", "mine:small", "--weights", "small.pt", "--data", "digits.npz", "--target", "local", "--mean", "0.3", "--std",
                     "0.4", "--out", "out", "--time", "5m", *QUICK, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "points lost" in done.stdout and "front of" in done.stdout
    study = tomllib.loads((place / "out" / "study.toml").read_text())
    assert study["model"]["source"] == "mine:small" and study["space"]["compression"]["*"] == ["none"]
    assert set(study["space"]["compression"]) == {"*", "0", "3", "8"}
    (place / "mine.py").unlink()
    (place / "small.pt").unlink()
    for file in (place / "cache").rglob("given.*"):
        file.unlink()
    rows = json.loads(netwright("front", "out", "--format", "json", cwd=place).stdout)
    assert rows and all(row["candidate"].startswith("given-network_") and row["test_accuracy"] > 0.5 for row in rows)
    again = netwright("resume", "out", cwd=place)
    assert again.returncode == 0 and "ended by" in again.stderr, again.stderr
    exported = netwright("export", "out", rows[0]["id"], "--to", "model", cwd=place)
    assert exported.returncode == 0 and (place / "model" / "run.py").is_file(), exported.stderr


@pytest.mark.parametrize("changes, said", [
    ({"model": "mine:big"}, "has no attribute 'big'"), ({"model": "nothing.onnx"}, "no such file"), ({"weights": "none.pt"}, "model.weights"),
    ({"data": "none.npz"}, "data.path"), ({"mean": "a,b"}, "--mean 'a,b'"), ({"mean": "0.1,0.2"}, "2 numbers as mean"),
    ({"target": "lokal"}, "lokal")])
def test_a_mistake_is_one_line_and_nothing_is_written(changes, said, place):
    given = {"model": "mine:small", "weights": "small.pt", "data": "digits.npz", "target": "local", "mean": "0.3", "std": "0.4"} | changes
    options = [f"--{name}={value}" for name, value in given.items() if name != "model"]
    refused(netwright("compress", given["model"], *options, "--out", "out", *QUICK, cwd=place), said)
    assert not (place / "out" / "study.toml").exists()


def drafted(model: str, **changes) -> Namespace:
    return Namespace(**{"model": model, "weights": "", "data": "images", "target": "local", "mean": "", "std": "", "time": "1h", "set": [],
                        **changes})


def test_the_draft_looks_at_images_that_the_network_was_not_trained_on():
    study = compress.draft(drafted("a.b:resnet", set=["study.seed=5"]))
    assert (study.study.name, study.study.seed, study.data.validation_from, study.data.source) == ("resnet", 5, "test", "folder")
    assert compress.draft(drafted("models/my net.onnx", data="x.npz")).study.name == "my_net"


def test_a_model_stands_in_the_place_of_stages():
    table = {"study": {"name": "a", "objectives": ["accuracy"]}, "data": {"source": "digits"}, "train": {"epochs": 1, "finetune_epochs": 1},
             "space": {"stages": [{"width": 8, "blocks": [{"name": "conv"}]}]}, "model": {"source": "a:b"}}
    with pytest.raises(StudyError, match="leave out one of the two"):
        of_table(table, [], "study.toml")
    with pytest.raises(StudyError, match="1 numbers as mean and 0 as std"):
        of_table({**table, "space": {}, "model": {"source": "a:b", "mean": [0.1]}}, [], "study.toml")


def test_a_start_that_is_no_candidate_of_the_space_is_refused(tmp_path):
    text = (ROOT / "studies" / "digits.toml").read_text()
    (tmp_path / "study.toml").write_text(text + '\n[start]\ncandidates = ["conv:24/1 classifier:10/1"]\n')
    refused(netwright("run", "study.toml", "--out", "out", cwd=tmp_path), "start.candidates", "is no candidate of this space")


def test_a_study_starts_with_every_chain_as_far_as_layers_are_offered_it_and_leaves_out_what_they_mind():
    def effect(text: str, points: float) -> Effect:
        return Effect("dense", parse_chain(text), points, points / 10, 500, 500)
    effects = (effect("int8+huffman", 0.1), effect("intn-bits4+huffman", 0.5), effect("magnitude-keep0.5+int8+huffman", 1.0),
               effect("intn-bits3+huffman", 30.0))
    found = Sensitivity(Layer(parse("blocks", "classifier"), 10), Effect("", (), 0.0, 0.0, 1000, 500), 0.9, effects)
    study = compress.final(compress.draft(drafted("a.b:resnet")), found)
    kept = ["none", "int8+huffman", "intn+huffman", "magnitude+int8+huffman"]
    assert study.space.compression == {"*": ["none"], "dense": kept}
    assert sorted(study.start.candidates) == sorted(["classifier:10/1", *(f"classifier:10/1 [*={chain}]" for chain in kept[1:])])


def test_a_network_that_minds_everything_is_refused():
    effects = (Effect("dense", parse_chain("int8+huffman"), 60.0, 3.0, 500, 500),)
    found = Sensitivity(Layer(parse("blocks", "classifier"), 10), Effect("", (), 0.0, 0.0, 1000, 500), 0.9, effects)
    with pytest.raises(StudyError, match="are the weights, --mean and --std those of the network"):
        compress.final(compress.draft(drafted("a.b:resnet")), found)
