"""Crews: the threads of a network that runs on several, gathered once an inference."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import spaces.ops
from backends.compile import compile_program
from backends.library import Library
from backends.target import load

spaces.ops.register_all()

IMAGE = np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
RUN = """
import sys
import numpy as np
from backends.library import Library
folder, order = sys.argv[1], sys.argv[2].split(",")
library = Library(f"{folder}/model.so", order, np.load(f"{folder}/weights.npz"))
image, expected = np.load(f"{folder}/image.npy"), np.load(f"{folder}/expected.npy")
assert all(np.abs(library.run(image) - expected).max() < 1e-4 for _ in range(300))
"""


@pytest.fixture
def compiled(tmp_path):
    """A network on two threads in `model.so`, with weights, an image and what torch computes beside it; and the names of the
    weights in order."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.MaxPool2d(2),
                            nn.Conv2d(64, 64, 3, groups=64, padding=1), nn.Flatten(), nn.Linear(64 * 32 * 32, 10)).eval()
    program = torch.export.export(network, (torch.from_numpy(IMAGE),))
    report = compile_program(program, replace(load("local"), threads=2), tmp_path / "model.so")
    assert b"netwright_crew_lead" in (tmp_path / "model.so").read_bytes()
    np.savez(tmp_path / "weights.npz", **{name: value.detach().numpy() for name, value in program.state_dict.items()})
    np.save(tmp_path / "image.npy", IMAGE)
    with torch.no_grad():
        np.save(tmp_path / "expected.npy", network(torch.from_numpy(IMAGE)).numpy())
    return tmp_path, report.parameters


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_a_network_for_two_threads_runs_on_a_pool_of_fewer_or_more(threads, compiled, monkeypatch):
    """More than there are cores, too: a helper that must wait gives way."""
    folder, order = compiled
    monkeypatch.setenv("TVM_NUM_THREADS", threads)
    done = subprocess.run([sys.executable, "-c", RUN, str(folder), ",".join(order)], capture_output=True, text=True, timeout=300,
                          cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr


def test_two_callers_at_once_have_a_crew_each(compiled):
    folder, order = compiled
    expected = np.load(folder / "expected.npy")

    def differences(_) -> float:
        library = Library(folder / "model.so", order, np.load(folder / "weights.npz"))
        return max(np.abs(library.run(IMAGE) - expected).max() for _ in range(200))
    with ThreadPoolExecutor(2) as pool:
        assert max(pool.map(differences, range(2))) < 1e-4
