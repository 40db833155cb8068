"""Kernels of targets of another instruction set, run as the target's own code by QEMU's user-mode emulator, one process a case.

Needs a C compiler for the target (`aarch64-linux-gnu-gcc`) and the emulator (`qemu-aarch64-static`): on Debian and Ubuntu the packages
gcc-aarch64-linux-gnu and qemu-user-static.
"""

import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from backends.target import Target

HARNESS = Path(__file__).parent / "board.c"
KINDS = {"i": 0, "u": 1, "f": 2}  # DLPack's type codes
LIMIT_S = 120


def missing(target: Target) -> str:
    """What this machine lacks to run the target's code; empty if nothing."""
    lacking = [tool for tool in (_compiler(target), _emulator(target)) if not shutil.which(tool)]
    return f"no {' and no '.join(lacking)}" if target.triple and lacking else ""


def execute(functions: dict, calls: list[tuple[str, list[np.ndarray]]], target: Target) -> np.ndarray:
    """Compiles TIR functions by name, makes the calls in order, each on arrays (the same array is the same tensor), and
    gives the last argument of the last one."""
    import tvm

    with tempfile.TemporaryDirectory(prefix="netwright-") as name:
        folder = Path(name)
        tvm.compile(tvm.IRModule(functions), target.tvm()).mod.write_to_file(str(folder / "kernels.o"), "o")
        names = [f"__tvm_ffi_{function}" for function in functions]
        (folder / "table.c").write_text(
            "#include <tvm/ffi/c_api.h>\n" + "".join(f"int {name}(void*, const TVMFFIAny*, int32_t, TVMFFIAny*);\n" for name in names)
            + f"const TVMFFISafeCallType FUNCTIONS[] = {{{', '.join(names)}}};\n")
        _run([*_compile(target), "-static", "-o", "case", str(_harness(target)), "table.c", "kernels.o", "-lm"], folder)
        (folder / "input").write_bytes(_case(list(functions), calls))
        out = calls[-1][1][-1]
        data = _run([_emulator(target), "-cpu", target.mcpu, "case", "input"], folder)
        return np.frombuffer(data, out.dtype).reshape(out.shape)


def _compiler(target: Target) -> str:
    return f"{target.triple}-gcc"


def _emulator(target: Target) -> str:
    return f"qemu-{target.triple.partition('-')[0]}-static"


def _compile(target: Target) -> list[str]:
    from tvm_ffi import libinfo

    return [_compiler(target), "-O1", *(f"-I{path}" for path in {libinfo.find_include_path(), libinfo.find_dlpack_include_path()})]


@cache
def _harness(target: Target) -> Path:
    """`board.c` as an object of the target's, compiled once."""
    folder = Path(tempfile.mkdtemp(prefix="netwright-"))
    _run([*_compile(target), "-c", "-o", "board.o", str(HARNESS)], folder)
    return folder / "board.o"


def _case(functions: list[str], calls: list[tuple[str, list[np.ndarray]]]) -> bytes:
    """Tensors and calls as `board.c` reads them."""
    arrays = {id(array): array for _, arguments in calls for array in arguments}
    arrays[id(calls[-1][1][-1])] = arrays.pop(id(calls[-1][1][-1]))  # the result is the last
    numbers = {key: number for number, key in enumerate(arrays)}
    parts = [_int64s(len(arrays))]
    for array in arrays.values():
        head = _int64s(KINDS[array.dtype.kind], 8 * array.itemsize, array.ndim, *array.shape)
        parts += [head, np.ascontiguousarray(array).tobytes()]
    parts.append(_int64s(len(calls)))
    parts += [_int64s(functions.index(name), len(arguments), *(numbers[id(array)] for array in arguments))
              for name, arguments in calls]
    return b"".join(parts)


def _int64s(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)


def _run(command: list[str], folder: Path) -> bytes:
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=LIMIT_S)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stderr.decode()[-2000:]}"
    return done.stdout
