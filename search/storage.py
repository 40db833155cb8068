"""A study's directory: study.toml as run, study.db (Optuna on SQLite in WAL mode), candidates, front.csv.

Every file is written aside and renamed. A directory that another version made, a database that is
corrupt and a full disk are refused in one line, and nothing is overwritten.
"""

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import msgspec

from search.study_file import StudyError, StudyFile, load
from spaces.given import copy_from

FORMAT = 2
LIBRARIES = ("torch", "apache-tvm", "apache-tvm-ffi", "optuna", "numpy")


def write(path: Path, content: str | bytes) -> None:
    """Writes a file aside, flushes it to the disk, and renames it to `path`."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def create(directory: Path, study: StudyFile) -> StudyFile:
    """Makes a new study directory. StudyError if there is one already."""
    if (directory / "study.toml").exists() or (directory / "study.db").exists():
        raise StudyError(f"{directory} holds a study already; continue it with `netwright resume {directory}`,"
                         " or give another --out")
    directory.mkdir(parents=True, exist_ok=True)
    study = msgspec.structs.replace(study, provenance=provenance(study))
    write(directory / "study.toml", toml(study))
    return study


def rewrite(directory: Path, study: StudyFile) -> None:
    """Puts another study in the place of one that has no candidates yet."""
    write(directory / "study.toml", toml(msgspec.structs.replace(study, provenance=provenance(study))))


def reopen(directory: Path) -> StudyFile:
    """The study of an existing directory. StudyError if it is none, or another version's."""
    if not (directory / "study.toml").is_file():
        raise StudyError(f"{directory} holds no study (no study.toml); start one with `netwright run STUDY.toml`")
    copy_from(directory)  # the network that its candidates are of, if the user gave one
    study = load(directory / "study.toml")
    made = study.provenance.get("format")
    if made != FORMAT:
        raise StudyError(f"{directory} was made by netwright {study.provenance.get('netwright', 'unknown')} (format"
                         f" {made}); this is {metadata.version('netwright')} (format {FORMAT}): install that version,"
                         " or run the study anew with another --out")
    return study


def toml(study: StudyFile) -> str:
    """The study as a TOML text that `load` reads back."""
    import tomli_w

    return tomli_w.dumps(_without_none(msgspec.to_builtins(study)))


def provenance(study: StudyFile) -> dict:
    """Versions, machine and seed of a run."""
    return {"format": FORMAT, "netwright": metadata.version("netwright"), "python": platform.python_version(),
            **{name: metadata.version(name) for name in LIBRARIES},
            "processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()}


def open_storage(directory: Path, url: str | None = None):
    """Optuna's storage of a study: `url`, or study.db in WAL mode. StudyError if the database is corrupt."""
    from optuna.storages import RDBStorage
    from sqlalchemy import event

    if url:
        with storage_errors(url):
            return RDBStorage(url)
    file = directory / "study.db"
    with storage_errors(file):
        storage = RDBStorage(f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": 60}})
        event.listen(storage.engine, "connect", _fast_and_safe)
        storage.engine.dispose()
        return storage


@contextmanager
def storage_errors(place: Path | str) -> Iterator[None]:
    """Turns the storage's errors into one line that names the place."""
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (sqlalchemy.exc.DatabaseError, StorageInternalError, UnicodeDecodeError) as error:
        cause = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
        if "full" in cause or "disk I/O" in cause:
            raise OSError(errno.ENOSPC, cause, str(place)) from None
        raise StudyError(f"{place} cannot be used: {cause}; restore it from a copy, or run the study anew with"
                         " another --out") from None


def _fast_and_safe(connection, record) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _without_none(value):
    if isinstance(value, dict):
        return {key: _without_none(v) for key, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
