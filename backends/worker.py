"""A process of its own for work that may crash or hang: compiled kernels, compilers, measurements.

The child lives on between calls, so that imports are paid once; it is replaced after a crash or a
time-out. It dies with its parent, even if the parent is killed.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

STARTUP_S, GRACE_S = 120.0, 3.0


class WorkerError(RuntimeError):
    """What went wrong in the worker, in one line: an exception's text, a signal, or the time limit."""


class Worker:
    """Runs importable functions in a child process. Not shared between threads."""

    def __init__(self, environment: dict[str, str]):
        """environment: variables that are set in the child before it imports anything."""
        self._environment = environment
        self._process = None
        self._pipe: Connection | None = None
        self._busy = False

    def call(self, function: Callable, *arguments: Any, timeout_s: float) -> Any:
        """function(*arguments) in the child; arguments and result must pickle.

        WorkerError if it raises, crashes or takes longer than `timeout_s`.
        """
        if self._process is None or not self._process.is_alive():
            self._start()
        try:
            self._busy = True
            self._pipe.send((function, arguments))
            if not self._pipe.poll(timeout_s):
                self.close()
                raise WorkerError(f"{function.__name__} took longer than {timeout_s:g} s and was stopped")
            ok, result = self._pipe.recv()
            self._busy = False
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise WorkerError(f"{function.__name__} {self._death()}") from None
        if not ok:
            raise WorkerError(result)
        return result

    def close(self) -> None:
        """Ends the child: at once if it is busy, else by closing its pipe."""
        if self._process is not None:
            self._pipe.close()
            self._process.join(0 if self._busy else GRACE_S)
            self._process.kill()
            self._process.join()
            self._process, self._busy = None, False

    def _start(self) -> None:
        self.close()
        context = multiprocessing.get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, self._environment, os.getpid()), daemon=True)
        self._process.start()
        child.close()
        if not self._pipe.poll(STARTUP_S):
            self.close()
            raise WorkerError(f"the worker process did not start within {STARTUP_S:g} s")
        self._pipe.recv()

    def _death(self) -> str:
        process = self._process
        process.join(5)
        code = process.exitcode
        self.close()
        return f"crashed with {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"


def _serve(pipe: Connection, environment: dict[str, str], parent: int) -> None:
    """The child: answers calls until the pipe closes."""
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent)
    pipe.send("ready")
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(_attempt(function, arguments))


def _attempt(function: Callable, arguments: tuple) -> tuple[bool, Any]:
    try:
        return True, function(*arguments)
    except Exception as error:  # the reason is a value for the parent
        text = str(error).strip() or "no message"
        last = text.splitlines()[-1] if type(error).__module__.startswith(("tvm", "torch")) else text.splitlines()[0]
        return False, f"{type(error).__name__}: {last}"


def _die_with(parent: int) -> None:
    """Linux: the kernel kills this process when its parent dies (prctl PR_SET_PDEATHSIG)."""
    import ctypes
    import sys

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
