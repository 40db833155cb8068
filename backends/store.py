"""The kernel store: every option that was ever measured, by workload and target, and the object code of the kernels
that networks use, in one SQLite file.

A row of `options` is one option of one algorithm for one workload: its samples, or why it was refused. A row of
`objects` is one compiled function by its symbol, which names all that its code depends on beside the target. Rows belong
to a fingerprint: the processor, its features, threads, TVM's version and the kernels' own code, so that nothing
measured or compiled elsewhere or with other code is believed. Several processes may write at once; a row is written
once and `retune` replaces it.
"""

import hashlib
import json
import os
import platform
import sqlite3
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from backends.roofline import Roofline, measure_roofline
from backends.target import Target
from backends.workload import Workload

SCHEMA = """
CREATE TABLE IF NOT EXISTS options (
  target TEXT, workload TEXT, algorithm TEXT, option TEXT, samples_us TEXT, refused TEXT,
  PRIMARY KEY (target, workload, algorithm, option)
);
CREATE TABLE IF NOT EXISTS objects (target TEXT, symbol TEXT, digest TEXT, code BLOB, PRIMARY KEY (target, symbol));
CREATE TABLE IF NOT EXISTS targets (target TEXT PRIMARY KEY, description TEXT, roofline TEXT);
"""
BUSY_S, RETRY_S = 60.0, 0.01
# Object code of all targets together; the oldest goes first.
OBJECT_BYTES = 256 * 2**20
OLDEST = """
DELETE FROM objects WHERE rowid IN (SELECT rowid FROM (
  SELECT rowid, SUM(LENGTH(code)) OVER (ORDER BY rowid DESC) AS newer FROM objects) WHERE newer > ?)
"""


@dataclass(frozen=True)
class Trial:
    """One measured option: samples in microseconds, none if it was refused for the reason given."""

    algorithm: str
    option: dict[str, Any]
    samples_us: tuple[float, ...]
    refused: str = ""

    @property
    def us(self) -> float:
        """The median, infinite if refused."""
        return median(self.samples_us) if self.samples_us else float("inf")


class Store:
    """The trials of one target in the file at `path`, which is made if it is missing."""

    def __init__(self, path: Path, target: Target):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.target = target
        description = describe(target)
        self._target = hashlib.sha256(description.encode()).hexdigest()[:16]
        self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        _write_ahead(self._connection)
        self._connection.executescript(SCHEMA)
        self._connection.execute("INSERT OR IGNORE INTO targets VALUES (?, ?, NULL)", (self._target, description))

    def trials(self, workload: Workload) -> list[Trial]:
        """What was measured for the workload, fastest first."""
        rows = self._connection.execute("SELECT algorithm, option, samples_us, refused FROM options"
                                        " WHERE target = ? AND workload = ?", (self._target, key(workload)))
        trials = [Trial(name, json.loads(option), tuple(json.loads(samples)), refused)
                  for name, option, samples, refused in rows]
        return sorted(trials, key=lambda trial: trial.us)

    def best(self, workload: Workload) -> Trial | None:
        """The fastest option that was not refused."""
        return next((trial for trial in self.trials(workload) if trial.samples_us), None)

    def add(self, workload: Workload, trials: Iterable[Trial]) -> None:
        """Records trials together, in place of older ones of the same options."""
        rows = [(self._target, key(workload), trial.algorithm, json.dumps(trial.option, sort_keys=True),
                 json.dumps(trial.samples_us), trial.refused) for trial in trials]
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR REPLACE INTO options VALUES (?, ?, ?, ?, ?, ?)", rows)

    def forget(self, workload: Workload) -> None:
        """Removes the workload's trials."""
        self._connection.execute("DELETE FROM options WHERE target = ? AND workload = ?", (self._target, key(workload)))

    def objects(self, symbols: Iterable[str]) -> dict[str, bytes]:
        """The object code that is known, by symbol. What is not as it was written counts as unknown."""
        rows = (self._connection.execute("SELECT symbol, digest, code FROM objects WHERE target = ? AND symbol = ?",
                                         (self._target, symbol)).fetchone() for symbol in symbols)
        return {symbol: zlib.decompress(code) for symbol, digest, code in filter(None, rows) if digest == _digest(code)}

    def add_objects(self, objects: Mapping[str, bytes]) -> None:
        """Records object code by symbol, in place of what was known."""
        rows = [(self._target, symbol, _digest(code), code)
                for symbol, code in ((symbol, zlib.compress(code)) for symbol, code in objects.items())]
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", rows)
            self._connection.execute(OLDEST, (OBJECT_BYTES,))

    def roofline(self) -> Roofline:
        """The target's measured peak and bandwidths; measured now if they are not known."""
        (text,), = self._connection.execute("SELECT roofline FROM targets WHERE target = ?", (self._target,))
        if text is None:
            text = measure_roofline(self.target).text()
            self._connection.execute("UPDATE targets SET roofline = ? WHERE target = ?", (text, self._target))
        return Roofline.parse(text)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()


def default_path() -> Path:
    """NETWRIGHT_STORE, or kernels.db in the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("NETWRIGHT_STORE") or user_cache_path("netwright") / "kernels.db")


def key(workload: Workload) -> str:
    """The workload as text."""
    return json.dumps(asdict(workload), sort_keys=True)


def _digest(code: bytes) -> str:
    return hashlib.sha256(code).hexdigest()


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Where two processes do this to a new file at once, SQLite fails at one of them without waiting: it is tried again."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(RETRY_S)


def describe(target: Target) -> str:
    """What a measured time depends on beside the workload."""
    import tvm

    return json.dumps({"cpu": _cpu_model() if target.connection == "local" else target.name, "mcpu": target.mcpu,
                       "triple": target.triple, "kind": target.kind, "threads": target.threads, "tvm": tvm.__version__,
                       "lanes": target.lanes, "features": sorted(target.features), "kernels": _code()}, sort_keys=True)


@cache
def _code() -> str:
    """A digest of the code that writes and measures kernels."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _cpu_model() -> str:
    """The processor as the system names it: model name, family, model and stepping on Linux."""
    wanted = ("model name", "cpu family", "model", "stepping")
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    found = {name.strip(): value.strip() for name, value in fields.items() if name.strip() in wanted}
    return json.dumps(found, sort_keys=True) if found else platform.machine()
