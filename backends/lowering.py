"""Which kernel file serves a workload: the folder of its op is walked, the lowest PRIORITY that serves wins.

No op falls back to an unscheduled loop: an op without a kernel file is a CompileError.
"""

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType

from backends.target import Target
from backends.workload import CompileError, Lowering, Workload

FOLDER = Path(__file__).parent / "kernels"


@cache
def ops() -> list[str]:
    """The ops that have kernels."""
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir() and not path.name.startswith("_"))


@cache
def algorithms(op: str) -> tuple[ModuleType, ...]:
    """The kernel files of an op, first choice first."""
    found = sorted(module.name for module in pkgutil.iter_modules([str(FOLDER / op)]))
    modules = [importlib.import_module(f"backends.kernels.{op}.{name}") for name in found]
    return tuple(sorted(modules, key=lambda module: module.PRIORITY))


def choose(workload: Workload, target: Target) -> ModuleType:
    """The kernel file that serves the workload. CompileError names the op and its shapes if none does."""
    for algorithm in algorithms(workload.op):
        if algorithm.serves(workload, target):
            return algorithm
    raise CompileError(f"no kernel for {workload} on {target.name}; backends/kernels/{workload.op} has"
                       f" {', '.join(name_of(a) for a in algorithms(workload.op)) or 'none'}")


def name_of(algorithm: ModuleType) -> str:
    """The algorithm's name: its file's."""
    return algorithm.__name__.rpartition(".")[2]


def lower(workload: Workload, target: Target) -> tuple[str, dict, Lowering]:
    """The chosen algorithm's name, its first option and the lowering."""
    algorithm = choose(workload, target)
    option = algorithm.options(workload, target)[0]
    return name_of(algorithm), option, algorithm.lower(workload, target, option)
