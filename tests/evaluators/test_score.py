"""Scoring one candidate: cheap figures first, failures as values, real files."""

import os
import signal
from pathlib import Path

import pytest

import evaluators.score as scoring
from evaluators.score import Scorer
from search.study_file import load
from spaces.candidate import Candidate

ROOT = Path(__file__).parents[2]
SMALL = ["train.epochs=1", "train.finetune_epochs=1", "teacher.epochs=1"]
GOOD = "conv:8/2 [*=int8] conv:16/2 [*=magnitude-keep0.3] classifier:10/1 | soft_targets"


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """The digits study, made short."""
    study = load(ROOT / "studies" / "digits.toml", [*SMALL, 'study.constraints=["stored_bytes <= 20_000"]'])
    with Scorer(study, tmp_path_factory.mktemp("study")) as opened:
        yield opened


def crash(*arguments):
    """Dies as a bad kernel does."""
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_scored_candidate_has_every_metric_and_its_files(scorer):
    result = scorer.score(Candidate.parse(GOOD))
    assert result.status == "scored", result.reason
    assert set(result.metrics) == {"accuracy", "latency_ms", "latency_low_ms", "latency_high_ms", "stored_bytes",
                                   "macs", "parameters", "peak_memory_bytes", "train_seconds"}
    assert result.metrics["macs"] == 16 * 9 * 8 + 4 * 8 * 9 * 16 + 160
    assert {p.name for p in scorer.folder(Candidate.parse(GOOD).id).iterdir()} >= {"model.so", "weights.safetensors"}


def test_the_same_candidate_scores_the_same_again(scorer):
    first, second = (scorer.score(Candidate.parse(GOOD)).metrics for _ in "ab")
    assert first["accuracy"] == second["accuracy"] and first["stored_bytes"] == second["stored_bytes"]


def test_the_compiled_network_is_as_accurate_on_the_test_split_as_its_reference(scorer):
    from evaluators.training.loop import evaluate

    scorer.score(Candidate.parse(GOOD))
    seed = int(Candidate.parse(GOOD).id, 16) % 2**31
    network, _ = scorer.teachers.trained(Candidate.parse(GOOD), scorer.teachers.rungs[0], seed)
    expected = evaluate(network, scorer.dataset.test, scorer.dataset)
    assert scorer.final(Candidate.parse(GOOD).id)["test_accuracy"] == pytest.approx(expected, abs=0.01)


def test_a_broken_constraint_on_bytes_is_found_before_training(scorer, monkeypatch):
    monkeypatch.setattr(scorer.teachers, "trained", None)
    result = scorer.score(Candidate.parse("conv:64/1 conv:64/2 classifier:10/1"))
    assert result.status == "infeasible" and result.reason == "before training, breaks stored_bytes <= 20000"
    assert result.metrics["stored_bytes"] == 4 * (64 * 9 + 64 + 64 * 64 * 9 + 64 + 640 + 10)


def test_contradicting_removals_fail_the_candidate_with_the_layer(scorer):
    text = "conv:8/2 [*=l1_filters] mbconv-expand2:8/1 [project=l1_filters-keep0.75] classifier:10/1"
    result = scorer.score(Candidate.parse(text))
    assert result.status == "failed" and "layers.1.project" in result.reason and "contradicts" in result.reason


def test_a_crash_in_the_compiled_code_fails_the_candidate_and_the_next_one_is_scored(scorer, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "compile_and_measure", crash)
        result = scorer.score(Candidate.parse(GOOD))
    assert result.status == "failed" and "SIGSEGV" in result.reason
    assert scorer.score(Candidate.parse(GOOD)).status == "scored"


def test_a_full_disk_ends_the_study_instead_of_failing_candidates(scorer, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", "weights.safetensors")
    monkeypatch.setattr(scoring, "save", full)
    with pytest.raises(OSError, match="No space left"):
        scorer.score(Candidate.parse(GOOD))


def test_every_op_of_the_study_s_space_has_kernels(scorer):
    import random

    from backends.fusion import groups_of
    from backends.graph import read
    from backends.lowering import choices, served_on
    from backends.target import load
    from evaluators.pipeline import untrained
    from evaluators.subject import export_program

    rng, checked = random.Random(0), 0
    for _ in range(50):
        candidate = scorer.space.sample(lambda name, options: rng.choice(options))
        try:
            program = export_program(untrained(candidate, scorer.dataset, scorer.study.train), scorer.dataset)
        except scoring.EmptyRange:
            continue
        parts = [part for group in groups_of(read(program, served_on(load("local")))) for part in group.parts]
        assert all(choices(part.workload, load("local")) for part in parts)
        checked += len(parts)
    assert checked > 250
