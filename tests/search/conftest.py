"""A small study and a made-up scorer that answers at once."""

import hashlib

import msgspec
import pytest

from evaluators.score import Result
from search.study_file import StudyFile
from spaces.space import Space

TABLES = {
    "study": {"name": "synthetic", "objectives": ["accuracy", "latency_ms"], "seed": 3, "trials": 30,
              "constraints": ["stored_bytes <= 900"]},
    "data": {"source": "digits"}, "train": {"epochs": 1, "finetune_epochs": 1},
    "space": {"stages": [{"layers": [1, 2], "width": [8, 16, 24],
                          "blocks": [{"name": "conv", "kernel": [1, 3, 5]}, {"name": "depthwise_separable"}]}],
              "compression": {"*": ["none", "int8"]}},
}


@pytest.fixture
def study() -> StudyFile:
    """The tables above as a study file."""
    return msgspec.convert(TABLES, StudyFile)


@pytest.fixture
def space(study) -> Space:
    """Its space."""
    return Space.from_tables(study.space.stages, {}, study.space.compression, [], 10)


def made_up(candidate, rung: int = 0) -> Result:
    """Figures that depend on the candidate's text and rung alone; one in sixteen fails, one in eight is too large."""
    number = int(hashlib.md5(str(candidate).encode()).hexdigest()[:8], 16)
    if number % 16 == 0:
        return Result("failed", reason="made to fail")
    metrics = {"accuracy": (number % 1000 + rung) / 1002, "latency_ms": 0.1 + number // 1000 % 100 / 50,
               "latency_low_ms": 0.1, "latency_high_ms": 3.0, "macs": 10.0, "parameters": 5.0,
               "stored_bytes": number // 7 % 1000, "peak_memory_bytes": 3.0}
    if metrics["stored_bytes"] > 900:
        return Result("infeasible", metrics, "breaks stored_bytes <= 900")
    return Result("scored", metrics)
