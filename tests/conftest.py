"""Tests keep a kernel store of their own, shared by all of a run and by their child processes."""

import atexit
import os
import shutil
import tempfile

FOLDER = tempfile.mkdtemp(prefix="netwright-")
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
os.environ["NETWRIGHT_STORE"] = os.path.join(FOLDER, "kernels.db")
