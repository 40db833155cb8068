"""Targets: a device as a TOML file, found by name in `backends/targets` or by path.

A file gives the TVM target, threads, batch, how the device is reached, and the measuring policy. What
"native" leaves open is detected on this machine.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "targets"
LANES = (("avx512f", 16), ("avx2", 8), ("neon", 4), ("sse2", 4))
# Vector operations that a thread must have to be worth waking, which takes about a microsecond.
PARALLEL_WORK = 2_000
# Vector operations that take as long as a vector from another core's cache.
FETCH = 8
FIELDS = {"doc": str, "kind": str, "mcpu": str, "triple": str, "threads": int, "batch": int, "connection": str, "measure": dict}


class TargetError(ValueError):
    """A target that is unknown or written wrong: the message names the file, the key and what would be right."""


@dataclass(frozen=True)
class MeasurePolicy:
    """When a measurement is good enough. Times in milliseconds or seconds as named; `relative_interval` is the
    width of the median's 95% interval over the median."""

    warmup_ms: float
    sample_ms: float
    min_samples: int
    max_samples: int
    max_seconds: float
    relative_interval: float


@dataclass(frozen=True)
class Target:
    """A device: what TVM compiles for, vectors of float32 `lanes`, vector `registers`, threads, batch, policy."""

    name: str
    doc: str
    kind: str
    mcpu: str
    triple: str
    threads: int
    batch: int
    connection: str
    measure: MeasurePolicy
    lanes: int
    registers: int
    l1_bytes: int
    features: frozenset[str]

    def tvm(self):
        """The `tvm.target.Target`."""
        return _tvm_target(self.kind, self.mcpu, self.triple, self.threads)

    def threads_for(self, work: int) -> int:
        """Threads for a kernel of `work` vector operations: all, or one where waking the others costs more."""
        return self.threads if work >= self.threads * PARALLEL_WORK else 1

    def threads_to_fetch(self, vectors: int) -> int:
        """Threads for a kernel that reads that many vectors and does little with each."""
        return self.threads_for(FETCH * vectors)


def names() -> list[str]:
    """The targets that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def describe(name: str) -> str:
    """The target's own line, for listings; reads the file and detects nothing."""
    return _read(FOLDER / f"{name}.toml")["doc"]


def missing(name: str) -> str:
    """What this machine lacks to build for and reach the target; empty if nothing."""
    from tvm.support import cc

    if _read(_path(name))["connection"] == "none":
        return "compiled for, not reached: its connection is \"none\""
    if cc.get_cc() is None:
        return "no C++ compiler to link with: install g++ or clang++, or set CXX"
    return ""


def reached(name: str) -> Target:
    """The target, to measure on. TargetError says what is missing, beside what `load` says."""
    target = load(name)
    if lacking := missing(name):
        raise TargetError(f"target {name}: {lacking}")
    return target


@cache
def load(name: str) -> Target:
    """The target of that name, or of a .toml file. TargetError names the known ones, or the bad key."""
    path = _path(name)
    table = _read(path)
    mcpu, features = _processor(table["mcpu"], table["triple"])
    lanes = next((lanes for feature, lanes in LANES if feature in features), 4)
    policy = _policy(path, table.pop("measure"))
    return Target(path.stem, **{**table, "mcpu": mcpu}, measure=policy, lanes=lanes,
                  registers=_registers(features), l1_bytes=_l1_bytes(), features=features)


def _path(name: str) -> Path:
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise TargetError(f"unknown target {name!r}; known: {', '.join(names())}, or the path of a .toml file")
    return path


def _registers(features: frozenset[str]) -> int:
    """Vector registers: AVX-512VL and AArch64 have 32, older x86 has 16."""
    return 32 if features & {"avx512vl", "neon"} else 16


def _l1_bytes() -> int:
    """The first data cache's size on this machine; 32 KiB where the system does not say."""
    import os

    name = "SC_LEVEL1_DCACHE_SIZE"
    return (os.sysconf(name) if name in os.sysconf_names else 0) or 32 * 1024


def _read(path: Path) -> dict:
    try:
        table = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"{path}: {error}") from None
    for key, kind in FIELDS.items():
        if type(table.get(key)) is not kind:
            raise TargetError(f"{path}: {key} is {table.get(key)!r}; it must be {kind.__name__}")
    for key in table.keys() - FIELDS.keys():
        raise TargetError(f"{path}: unknown key {key!r}; known: {', '.join(FIELDS)}")
    if table["connection"] not in ("local", "none") or table["kind"] != "llvm":
        raise TargetError(f"{path}: connection is {table['connection']!r} and kind {table['kind']!r}; so far a target can be"
                          " reached by \"local\", or only compiled for (\"none\"), and its kind is \"llvm\"")
    return table


def _policy(path: Path, table: dict) -> MeasurePolicy:
    known = MeasurePolicy.__dataclass_fields__
    if table.keys() != known.keys():
        raise TargetError(f"{path}: [measure] has {', '.join(table)}; it must have {', '.join(known)}")
    return MeasurePolicy(**table)


def _processor(mcpu: str, triple: str) -> tuple[str, frozenset[str]]:
    """The processor's name for LLVM and its instruction-set features; "native" is this machine's."""
    from tvm.target import codegen

    name = codegen.llvm_get_system_cpu() if mcpu == "native" else mcpu
    return name, frozenset(codegen.llvm_get_cpu_features(_tvm_target("llvm", name, triple, 1)))


def _tvm_target(kind: str, mcpu: str, triple: str, threads: int):
    import tvm

    named = {"mtriple": triple} if triple else {}
    return tvm.target.Target({"kind": kind, "mcpu": mcpu, "num-cores": threads, **named})
