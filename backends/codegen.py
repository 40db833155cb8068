"""Code generation: TIR functions to machine code by LLVM, as many modules at once as there are cores.

Neither TVM's passes nor LLVM hold Python's lock, so threads are enough.
"""

import subprocess
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from backends.cores import cores


def made_at_once(makers: Mapping[str, Callable[[], bytes]]) -> dict[str, bytes]:
    """What each of them makes, by its name."""
    return dict(zip(makers, _at_once(lambda make: make(), list(makers.values()))))


def object_code(symbol: str, function, target) -> bytes:
    """The object file of a TIR function, under this symbol."""
    with tempfile.TemporaryDirectory(prefix="netwright-") as folder:
        path = Path(folder) / "kernel.o"
        _compiled({symbol: function}, target).write_to_file(str(path), "o")
        return path.read_bytes()


def object_of_c(source: Path) -> bytes:
    """The object file of a file in C, by the compiler that links libraries. CalledProcessError says what that dislikes."""
    from tvm.support import cc

    with tempfile.TemporaryDirectory(prefix="netwright-") as folder:
        path = Path(folder) / "c.o"
        subprocess.run([cc.get_cc(), "-x", "c", "-std=gnu11", "-O2", "-fPIC", "-c", str(source), "-o", str(path)], check=True)
        return path.read_bytes()


def loaded(functions: Mapping[str, Any], target) -> dict[str, Any]:
    """The TVM module, loaded into this process, that holds each TIR function, by its name; a module a core."""
    names, modules = list(functions), min(len(cores()), len(functions))
    groups = [names[i::modules] for i in range(modules)]
    made = _at_once(lambda group: _loaded({name: functions[name] for name in group}, target), groups)
    return {name: module for group, module in zip(groups, made) for name in group}


def _loaded(functions: dict[str, Any], target):
    module = _compiled(functions, target)
    for name in functions:
        module[name]  # machine code is made at the first look-up
    return module


def _compiled(functions: dict[str, Any], target):
    import tvm

    named = {name: function.with_attr("global_symbol", name) for name, function in functions.items()}
    return tvm.compile(tvm.IRModule(named), target.tvm()).mod


def _at_once(work: Callable[[Any], Any], items: list) -> list:
    with ThreadPoolExecutor(len(cores())) as pool:
        return list(pool.map(work, items))
