"""The worker: crashes, hangs and errors are values for the parent, and nothing is left running."""

import os
import signal
import subprocess
import sys
import time

import pytest

from backends.worker import Worker, WorkerError


def crash():
    """Dies as a bad kernel does."""
    os.kill(os.getpid(), signal.SIGSEGV)


def fail(text):
    """Raises."""
    raise KeyError(text)


@pytest.fixture
def worker():
    made = Worker({"NETWRIGHT_TEST": "seen"})
    yield made
    made.close()


def test_it_computes_in_another_process_with_its_environment(worker):
    assert worker.call(os.getenv, "NETWRIGHT_TEST", timeout_s=30) == "seen"
    child = worker.call(os.getpid, timeout_s=30)
    assert child != os.getpid() and worker.call(os.getpid, timeout_s=30) == child


def test_a_crash_is_named_and_the_next_call_gets_a_new_process(worker):
    with pytest.raises(WorkerError, match="crash crashed with SIGSEGV"):
        worker.call(crash, timeout_s=30)
    assert worker.call(os.getpid, timeout_s=30) > 0


def test_a_hang_is_stopped_at_its_limit(worker):
    worker.call(os.getpid, timeout_s=30)
    begin = time.monotonic()
    with pytest.raises(WorkerError, match="sleep took longer than 0.5 s"):
        worker.call(time.sleep, 60, timeout_s=0.5)
    assert time.monotonic() - begin < 20
    assert worker.call(os.getpid, timeout_s=30) > 0


def test_an_exception_is_one_line(worker):
    with pytest.raises(WorkerError, match="KeyError: 'what'"):
        worker.call(fail, "what", timeout_s=30)


def test_the_child_dies_with_a_parent_that_is_killed(tmp_path):
    code = ("import os, time; from backends.worker import Worker\n"
            "if __name__ == '__main__':\n"
            "    print(Worker({}).call(os.getpid, timeout_s=60), flush=True); time.sleep(60)")
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not os.path.exists(f"/proc/{child}") or "Z" in open(f"/proc/{child}/stat").read().split()[2]:
            return
        time.sleep(0.1)
    pytest.fail("the child outlived its parent")
