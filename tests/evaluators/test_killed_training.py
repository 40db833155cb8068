"""A candidate whose training is killed with SIGKILL ends, begun again, with the numbers of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from evaluators.pipeline import Lessons, trained
from evaluators.rungs import Rung
from evaluators.training.data import open_data
from spaces.candidate import Candidate

CANDIDATE = "conv:16/1 [conv=magnitude-keep0.5+int8] conv:24/2 [*=int8] classifier:10/1"
SETTINGS = SimpleNamespace(epochs=12, finetune_epochs=12, batch=64, learning_rate=0.1, finetune_learning_rate=0.02, weight_decay=5e-4,
                           optimizer="sgd", schedule="cosine", label_smoothing=0.1, ema=0.9, precision="float32", device="cpu")
LIMIT_S = 120.0


def train_candidate(folder=None):
    """The deployed network."""
    data = SimpleNamespace(source="digits", path="", validation=0.2, validation_from="train", augment=["crop", "mixup"])
    torch.set_num_threads(1)
    return trained(Candidate.parse(CANDIDATE), Rung("full", 12), Lessons(open_data(data, 0), SETTINGS, folder=folder), 5)[0]


@pytest.fixture(scope="module")
def undisturbed():
    return train_candidate().state_dict()


@pytest.mark.parametrize("phase", ["dense", "fine"])
def test_a_killed_training_goes_on_to_the_same_numbers(phase, undisturbed, tmp_path):
    code = ("import sys; from pathlib import Path; from evaluators.training import checkpoint; checkpoint.EVERY_S = 0.0;"
            " from tests.evaluators.test_killed_training import train_candidate; train_candidate(Path(sys.argv[1]))")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    begin = time.monotonic()
    while not (tmp_path / f"{phase}.safetensors").is_file() and time.monotonic() - begin < LIMIT_S:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    resumed = train_candidate(tmp_path).state_dict()
    assert list(resumed) == list(undisturbed)
    assert all(torch.equal(resumed[name], undisturbed[name]) for name in resumed)
