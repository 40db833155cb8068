"""The front of a study as rows: read from its storage, sorted, written as table, CSV, JSON or Parquet."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from evaluators.evaluator import metrics
from search.controller import recorded
from search.pareto import Front, losses
from search.storage import open_storage, reopen, storage_errors, write
from search.study_file import StudyError
from spaces.candidate import Candidate

COLUMNS = ("id", "accuracy", "test_accuracy", "latency_ms", "interval_ms", "stored_bytes", "macs", "parameters",
           "peak_memory_bytes", "target", "candidate")
FORMATS = ("table", "csv", "json", "parquet")


def front_rows(directory: Path, objectives: list[str] | None = None, url: str | None = None) -> list[dict[str, Any]]:
    """The non-dominated, feasible candidates of the highest rung that one has reached, best accuracy first.

    `accuracy` is on the validation split; `test_accuracy` is None before the study's end. Latencies are of the
    final measurement where there is one. StudyError if an objective was not computed.
    """
    study, trials, finals = _read(directory, url)
    objectives = objectives or study.study.objectives
    for name in objectives:
        if name not in metrics():
            raise StudyError(f"--objectives names {name!r}, which is not computed; known: {', '.join(metrics())}")
    top = max((trial.user_attrs["rung"] for trial in trials), default=0)
    rows = {row["id"]: row for row in (_row(trial, study.target.name) for trial in trials if trial.user_attrs["rung"] == top)}
    chosen = [{**row, **_final(finals.get(f"final.{row['id']}"))} for row in _undominated(rows, objectives)]
    # The final measurement may move a member behind another.
    return sorted(_undominated({row["id"]: row for row in chosen}, objectives), key=lambda row: -row["accuracy"])


def _undominated(rows: dict[str, dict[str, Any]], objectives: list[str]) -> list[dict[str, Any]]:
    """The rows that no other row beats in every objective."""
    front, directions = Front(), [metrics()[name].direction for name in objectives]
    for key, row in rows.items():
        front.add(key, losses([row[name] for name in objectives], directions))
    return [rows[key] for key in front.members]


def text(rows: list[dict[str, Any]], form: str) -> str:
    """The rows as CSV or JSON."""
    if form == "json":
        return json.dumps([{name: row[name] for name in COLUMNS} for row in rows], indent=1)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*COLUMNS[:4], "latency_low_ms", "latency_high_ms", *COLUMNS[5:]])
    for row in rows:
        writer.writerow([*(row[name] for name in COLUMNS[:4]), *row["interval_ms"], *(row[n] for n in COLUMNS[5:])])
    return buffer.getvalue()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """The rows as a Parquet file."""
    import pandas

    buffer = io.BytesIO()
    pandas.DataFrame([{name: row[name] for name in COLUMNS} for row in rows]).to_parquet(buffer)
    return buffer.getvalue()


def print_table(rows: list[dict[str, Any]], title: str) -> None:
    """The rows as a table on standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("id", "accuracy", "test", "latency ms", "95% interval", "stored bytes", "MACs", "candidate", title=title)
    for row in rows:
        test = "" if row["test_accuracy"] is None else f"{row['test_accuracy']:.4f}"
        low, high = row["interval_ms"]
        table.add_row(row["id"], f"{row['accuracy']:.4f}", test, f"{row['latency_ms']:.4f}", f"{low:.4f}-{high:.4f}",
                      f"{row['stored_bytes']:,}", f"{row['macs']:,}", escape(row["candidate"]))
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def save(directory: Path, rows: list[dict[str, Any]]) -> None:
    """Writes front.csv."""
    write(directory / "front.csv", text(rows, "csv"))


def scored_rows(directory: Path, url: str | None = None) -> list[dict[str, Any]]:
    """Every feasible scored candidate, on the front or not."""
    study, trials, _ = _read(directory, url)
    return [_row(trial, study.target.name) for trial in trials]


def _read(directory: Path, url: str | None):
    """The study file, its scored trials without duplicates, and the study's attributes."""
    import optuna

    study = reopen(directory)
    with storage_errors(url or directory / "study.db"):
        try:
            opened = optuna.load_study(study_name=study.study.name, storage=open_storage(directory, url))
        except KeyError:
            raise StudyError(f"{url or directory / 'study.db'} holds no study {study.study.name!r}") from None
        trials = [t for t in opened.get_trials(deepcopy=False)
                  if t.user_attrs.get("status") == "scored" and "duplicate_of" not in t.user_attrs]
        return study, trials, opened.user_attrs


def _row(trial, target: str) -> dict[str, Any]:
    found, candidate = recorded(trial).metrics, trial.user_attrs["candidate"]
    return {**found, "id": Candidate.parse(candidate).id, "candidate": candidate, "target": target,
            "test_accuracy": None, "interval_ms": [found["latency_low_ms"], found["latency_high_ms"]]}


def _final(figures: dict | None) -> dict[str, Any]:
    return {key: figures[key] for key in ("test_accuracy", "latency_ms", "interval_ms")} if figures else {}
