"""The main job, small: a study is killed half-way, resumed, its front read, a model selected, exported and run
where there is neither torch nor this project."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from spaces.candidate import Candidate

ROOT = Path(__file__).parent.parent
NETWRIGHT = Path(sys.executable).parent / "netwright"
SMALL = ["--set", "train.epochs=3", "--set", "train.finetune_epochs=1", "--set", "teacher.epochs=2", "--trials", "7"]
BLOCKED = ("torch", "search", "spaces", "evaluators", "backends", "safetensors", "optuna")


def netwright(*arguments, cwd) -> subprocess.CompletedProcess:
    """Runs the installed console script to its end."""
    done = subprocess.run([NETWRIGHT, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done


def trials_of(directory: Path) -> list:
    """Every trial of a study, from its storage."""
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{directory / 'study.db'}")
    return optuna.load_study(study_name="digits", storage=storage).trials


@pytest.fixture(scope="module")
def killed_and_resumed(tmp_path_factory):
    """A study killed with SIGKILL once three candidates are done, and resumed to its end."""
    folder = tmp_path_factory.mktemp("job")
    with subprocess.Popen([NETWRIGHT, "run", ROOT / "studies" / "digits.toml", "--out", "out", *SMALL], cwd=folder,
                          stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        for line in process.stderr:
            if line.startswith("3/7"):
                break
        time.sleep(0.7)
        os.kill(process.pid, signal.SIGKILL)
    before = {t.number: t for t in trials_of(folder / "out") if t.state.is_finished()}
    done = netwright("resume", "out", cwd=folder)
    return folder, before, done


def test_nothing_is_repeated_or_lost(killed_and_resumed):
    folder, before, _ = killed_and_resumed
    trials = trials_of(folder / "out")
    told = [t.user_attrs["candidate"] for t in trials
            if t.user_attrs.get("status") in ("scored", "failed", "infeasible") and "duplicate_of" not in t.user_attrs]
    assert len(told) == len(set(told)) == 7
    assert all(trials[n].values == t.values and trials[n].user_attrs == t.user_attrs for n, t in before.items())
    interrupted = [t for t in trials if t.user_attrs.get("status") == "interrupted"]
    requeued = [t.user_attrs["requeued_from"] for t in trials if "requeued_from" in t.user_attrs]
    assert sorted(requeued) == [t.number for t in interrupted] and len(interrupted) <= 1
    assert all(t.state.is_finished() for t in trials)


def test_every_scored_candidate_has_its_files_and_nothing_is_left_aside(killed_and_resumed):
    folder, _, _ = killed_and_resumed
    scored = [t for t in trials_of(folder / "out") if t.user_attrs.get("status") == "scored"]
    for trial in scored:
        candidate = folder / "out" / "candidates" / Candidate.parse(trial.user_attrs["candidate"]).id
        assert {p.name for p in candidate.iterdir()} == {"candidate.txt", "weights.safetensors", "model.pt2",
                                                         "model.so", "timing.json"}
        assert (candidate / "candidate.txt").read_text().strip() == trial.user_attrs["candidate"]
        timing = json.loads((candidate / "timing.json").read_text())
        assert timing["verification"]["mismatch"] == "" and len(timing["samples_ms"]) >= 15
        data = (candidate / "weights.safetensors").read_bytes()
        assert len(data) - 8 - int.from_bytes(data[:8], "little") == trial.user_attrs["rung.0.stored_bytes"]
    assert not list((folder / "out").rglob(".*"))


def test_the_front_is_printed_saved_and_the_same_in_every_format(killed_and_resumed):
    folder, _, done = killed_and_resumed
    rows = json.loads(netwright("front", "out", "--format", "json", cwd=folder).stdout)
    saved = list(csv.DictReader((folder / "out" / "front.csv").open()))
    assert [row["id"] for row in rows] == [row["id"] for row in saved]
    assert all(row["id"] in done.stdout for row in rows) and "netwright select" in done.stderr
    assert all(row["test_accuracy"] is not None and row["interval_ms"][0] <= row["latency_ms"] <= row["interval_ms"][1]
               for row in rows)
    for a in rows:
        assert not any(b["accuracy"] > a["accuracy"] and b["latency_ms"] < a["latency_ms"]
                       and b["stored_bytes"] < a["stored_bytes"] for b in rows)


def test_select_names_one_and_an_impossible_limit_is_answered_with_the_nearest(killed_and_resumed):
    folder, _, _ = killed_and_resumed
    done = netwright("select", "out", "--target", "local", "--min-accuracy", "0.3", cwd=folder)
    assert "95% interval" in done.stdout and "samples measured now" in done.stdout
    refused = subprocess.run([NETWRIGHT, "select", "out", "--target", "local", "--max-bytes", "10"], cwd=folder,
                             capture_output=True, text=True)
    assert refused.returncode == 2 and "best on the front" in refused.stderr


def exported(folder: Path) -> Path:
    """The export of the first front member."""
    identity = json.loads(netwright("front", "out", "--format", "json", cwd=folder).stdout)[0]["id"]
    to = folder / "model"
    if not to.exists():
        netwright("export", "out", identity, "--to", "model", cwd=folder)
    return to


def png(folder: Path, index: int) -> Path:
    """A digit as a PNG of another size."""
    path = folder / f"digit{index}.png"
    pixels = np.round(load_digits().images[index] * (255 / 16)).astype(np.uint8)
    Image.fromarray(pixels).resize((8, 8)).save(path)
    return path


def test_the_exported_model_classifies_without_torch_and_without_this_project(killed_and_resumed, tmp_path):
    folder, _, _ = killed_and_resumed
    model, images = exported(folder), [png(tmp_path, i) for i in range(10)]
    assert {p.name for p in model.iterdir()} == {"model.so", "weights.safetensors", "model.pt2", "candidate.txt",
                                                 "card.json", "card.md", "run.py", "weights.py"}
    block = f"import sys, runpy; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
    code = block + f"sys.argv = {[str(model / 'run.py'), *map(str, images)]!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = [line.rpartition(": ")[2].split()[0] for line in done.stdout.splitlines()]
    assert answers == plain_torch(model, images)


def plain_torch(model: Path, images: list[Path]) -> list[str]:
    """The same images through model.pt2, in a process that knows none of our ops."""
    code = f"""
import json, sys, numpy as np, torch
from PIL import Image
sys.modules.update(dict.fromkeys({BLOCKED[1:]!r}))
card = json.loads(open({str(model / 'card.json')!r}).read())["data"]
network = torch.export.load({str(model / 'model.pt2')!r}).module()
for path in {[str(p) for p in images]!r}:
    pixels = np.asarray(Image.open(path).convert("L"), np.float32)[None, None]
    logits = network(torch.from_numpy((pixels - card["mean"][0]) / card["std"][0]).float())
    print(card["classes"][int(logits.argmax())])
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_export_overwrites_nothing_and_names_corrupt_weights(killed_and_resumed):
    folder, _, _ = killed_and_resumed
    model = exported(folder)
    rows = json.loads(netwright("front", "out", "--format", "json", cwd=folder).stdout)
    again = subprocess.run([NETWRIGHT, "export", "out", rows[0]["id"], "--to", "model"], cwd=folder,
                           capture_output=True, text=True)
    assert again.returncode == 2 and "model exists" in again.stderr and (model / "run.py").exists()
    smallest = min(rows, key=lambda row: row["stored_bytes"])
    weights = folder / "out" / "candidates" / smallest["id"] / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    for command in (["export", "out", smallest["id"], "--to", "other"],
                    ["select", "out", "--target", "local", "--max-bytes", str(smallest["stored_bytes"])]):
        done = subprocess.run([NETWRIGHT, *command], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 2 and "weights.safetensors is corrupt" in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    weights.write_bytes(content)
    assert not (folder / "other").exists()


@pytest.mark.slow
def test_the_exported_model_runs_in_a_fresh_environment_of_tvm_numpy_and_pillow(killed_and_resumed, tmp_path):
    folder, _, _ = killed_and_resumed
    model, image = exported(folder), png(tmp_path, 3)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "apache-tvm==0.27.0.post1", "apache-tvm-ffi==0.1.14.post1",
                    "numpy", "pillow"], check=True)
    done = subprocess.run([python, model / "run.py", image], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(str(image)), done.stderr
