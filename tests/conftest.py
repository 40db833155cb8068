"""Tests keep a kernel store of their own, shared by all of a run and by their child processes; several processes of tests share the
cores."""

import atexit
import os
import shutil
import tempfile

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))
else:
    FOLDER = tempfile.mkdtemp(prefix="netwright-")
    atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
    os.environ["NETWRIGHT_STORE"] = os.path.join(FOLDER, "kernels.db")
