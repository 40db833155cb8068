"""Kernels of targets of another instruction set, run as the target's own code by QEMU's user-mode emulator, many cases
a process.

Needs a C compiler for the target (`aarch64-linux-gnu-gcc`) and the emulator (`qemu-aarch64-static`): on Debian and Ubuntu
the packages gcc-aarch64-linux-gnu and qemu-user-static.
"""

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backends.target import Target

BOARD = Path(__file__).parent / "board.c"
KINDS = {"i": 0, "u": 1, "f": 2}  # DLPack's type codes
LIMIT_S = 600


@dataclass(frozen=True)
class Case:
    """TIR functions by name, and calls of them in order, each on arrays: the same array is the same tensor."""

    name: str
    functions: dict[str, Any]
    calls: list[tuple[str, list[np.ndarray]]]

    @property
    def result(self) -> np.ndarray:
        """The last argument of the last call, as it is before."""
        return self.calls[-1][1][-1]


def missing(target: Target) -> str:
    """What this machine lacks to run the target's code; empty if nothing."""
    lacking = [tool for tool in (_compiler(target), _emulator(target)) if not shutil.which(tool)]
    return f"no {' and no '.join(lacking)}" if target.triple and lacking else ""


def execute(cases: list[Case], target: Target) -> list[np.ndarray]:
    """The result of each case. Their functions, no two of one name, are compiled and linked together and run in one process;
    AssertionError names the case in which that ends."""
    with tempfile.TemporaryDirectory(prefix="netwright-") as name:
        folder = Path(name)
        _build({name: function for case in cases for name, function in case.functions.items()}, target, folder)
        (folder / "input").write_bytes(_written(cases))
        done = _run([_emulator(target), "-cpu", target.mcpu, "cases", "input"], folder)
    results, at = [], 0
    for case in cases:
        end = at + case.result.nbytes
        assert end <= len(done.stdout), f"{case.name}: ended with {done.returncode}: {done.stderr.decode()[-2000:]}"
        results.append(np.frombuffer(done.stdout[at:end], case.result.dtype).reshape(case.result.shape))
        at = end
    return results


def _build(functions: dict[str, Any], target: Target, folder: Path) -> None:
    """The folder's program `cases`: compiled TIR functions and `board.c`."""
    import tvm

    tvm.compile(tvm.IRModule(functions), target.tvm()).mod.write_to_file(str(folder / "kernels.o"), "o")
    (folder / "table.c").write_text(_table(functions))
    done = _run([*_compile(target), "-static", "-o", "cases", str(BOARD), "table.c", "kernels.o", "-lm"], folder)
    assert not done.returncode, done.stderr.decode()


def _table(functions: Iterable[str]) -> str:
    """C code of the functions in their order."""
    symbols = [f"__tvm_ffi_{name}" for name in functions]
    declared = "".join(f"int {symbol}(void*, const TVMFFIAny*, int32_t, TVMFFIAny*);\n" for symbol in symbols)
    return f"#include <tvm/ffi/c_api.h>\n{declared}const TVMFFISafeCallType FUNCTIONS[] = {{{', '.join(symbols)}}};\n"


def _compiler(target: Target) -> str:
    return f"{target.triple}-gcc"


def _emulator(target: Target) -> str:
    return f"qemu-{target.triple.partition('-')[0]}-static"


def _compile(target: Target) -> list[str]:
    from tvm_ffi import libinfo

    return [_compiler(target), "-O1", *(f"-I{path}" for path in {libinfo.find_include_path(), libinfo.find_dlpack_include_path()})]


def _written(cases: list[Case]) -> bytes:
    """Cases as `board.c` reads them."""
    numbers = {name: number for number, name in enumerate(name for case in cases for name in case.functions)}
    return _int64s(len(cases)) + b"".join(_written_case(case, numbers) for case in cases)


def _written_case(case: Case, functions: dict[str, int]) -> bytes:
    arrays = {id(array): array for _, arguments in case.calls for array in arguments}
    arrays[id(case.result)] = arrays.pop(id(case.result))  # the result is the last
    numbers = {key: number for number, key in enumerate(arrays)}
    parts = [_int64s(len(arrays))]
    for array in arrays.values():
        head = _int64s(KINDS[array.dtype.kind], 8 * array.itemsize, array.ndim, *array.shape)
        parts += [head, np.ascontiguousarray(array).tobytes()]
    parts.append(_int64s(len(case.calls)))
    parts += [_int64s(functions[name], len(arguments), *(numbers[id(array)] for array in arguments))
              for name, arguments in case.calls]
    return b"".join(parts)


def _int64s(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=folder, capture_output=True, timeout=LIMIT_S)
