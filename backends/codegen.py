"""Code generation: TIR functions to machine code by LLVM, as many modules at once as there are cores.

Neither TVM's passes nor LLVM hold Python's lock, so threads are enough.
"""

import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from backends.cores import cores


def object_code(writers: Mapping[str, Callable[[], Any]], target) -> dict[str, bytes]:
    """An object file of each function's own, by its symbol; `writers` give the TIR functions."""
    return dict(zip(writers, _at_once(lambda item: _object(*item, target), list(writers.items()))))


def loaded(functions: Mapping[str, Any], target) -> dict[str, Any]:
    """The TVM module, loaded into this process, that holds each TIR function, by its name; a module a core."""
    names, modules = list(functions), min(len(cores()), len(functions))
    groups = [names[i::modules] for i in range(modules)]
    made = _at_once(lambda group: _loaded({name: functions[name] for name in group}, target), groups)
    return {name: module for group, module in zip(groups, made) for name in group}


def _object(symbol: str, write: Callable[[], Any], target) -> bytes:
    with tempfile.TemporaryDirectory(prefix="netwright-") as folder:
        path = Path(folder) / "kernel.o"
        _compiled({symbol: write()}, target).write_to_file(str(path), "o")
        return path.read_bytes()


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
