"""An export with entropy-coded layers: what is in the folder, what its card says, and that it runs without this project."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from evaluators.export import export
from evaluators.score import Scorer
from evaluators.subject import FilesError, check_files
from search.study_file import load
from spaces.candidate import Candidate

ROOT = Path(__file__).parents[2]
TEXT = "conv:32/2 [*=magnitude-keep0.5+codebook-bits3+huffman] conv:48/2 [*=codebook+huffman] classifier:10/1 [*=int8+huffman]"
BLOCKED = ("torch", "search", "spaces", "evaluators", "backends", "safetensors", "optuna", "bitarray")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A scorer, and the row of a scored candidate."""
    study = load(ROOT / "studies" / "digits.toml", ["train.epochs=2", "train.finetune_epochs=1", "study.constraints=[]"])
    with Scorer(study, tmp_path_factory.mktemp("study")) as scorer:
        result = scorer.score(Candidate.parse(TEXT))
        assert result.status == "scored", result.reason
        identity = Candidate.parse(TEXT).id
        yield scorer, {**result.metrics, **scorer.final(identity), "candidate": TEXT, "id": identity}


def payload(folder: Path) -> int:
    """Bytes of both files of weights without their headers."""
    files = [(folder / name).read_bytes() for name in ("weights.safetensors", "weights.nw")]
    return sum(len(data) - 8 - int.from_bytes(data[:8], "little") for data in files)


def test_the_export_runs_on_its_coded_weights_with_tvm_numpy_and_pillow_alone(scored, tmp_path):
    scorer, row = scored
    export(scorer, row, tmp_path / "model")
    assert payload(tmp_path / "model") == row["stored_bytes"]
    for index in range(8):
        pixels = np.round(load_digits().images[index] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    arguments = [str(tmp_path / "model" / "run.py"), *(str(tmp_path / f"{index}.png") for index in range(8))]
    code = (f"import sys, runpy; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
            f"sys.argv = {arguments!r}; runpy.run_path(sys.argv[0], run_name='__main__')")
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.rpartition(": ")[2].split()[0] for line in done.stdout.splitlines()] == in_torch(tmp_path)


def in_torch(folder: Path) -> list[str]:
    """The classes of the same images by the exported network in plain torch."""
    code = f"""
import json, numpy as np, torch
from PIL import Image
data = json.load(open({str(folder / 'model' / 'card.json')!r}))["data"]
network = torch.export.load({str(folder / 'model' / 'model.pt2')!r}).module()
for index in range(8):
    pixels = np.asarray(Image.open(f"{folder}/{{index}}.png").convert("L"), np.float32)[None, None]
    print(data["classes"][int(network(torch.from_numpy((pixels - data["mean"][0]) / data["std"][0]).float()).argmax())])
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_card_counts_both_files_and_names_what_codes_would_make_larger(scored, tmp_path):
    scorer, row = scored
    export(scorer, row, tmp_path / "model")
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    files, text = card["bytes_by_tensor"], (tmp_path / "model" / "card.md").read_text()
    assert sum(sum(tensors.values()) for tensors in files.values()) == row["stored_bytes"]
    for file, tensors in files.items():
        assert (tmp_path / "model" / file).stat().st_size == card["header_bytes"][file] + sum(tensors.values())
    assert "layers.1.conv.weight_codes" in files["weights.nw"] and card["coding_would_grow"]
    assert all(name in text for name in card["coding_would_grow"]) and f"Entropy coded: {len(files['weights.nw'])} tensors" in text


def test_damaged_codes_are_named_before_anything_runs(scored, tmp_path):
    scorer, row = scored
    folder = tmp_path / "candidate"
    shutil.copytree(scorer.folder(row["id"]), folder)
    data = (folder / "weights.nw").read_bytes()
    (folder / "weights.nw").write_bytes(data[:-9])
    with pytest.raises(FilesError, match="weights.nw is corrupt .*; restore it"):
        check_files(folder)
    (folder / "weights.nw").unlink()
    with pytest.raises(FilesError, match="weights.nw is missing; restore it"):
        check_files(folder)
