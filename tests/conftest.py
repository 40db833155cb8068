"""Tests keep a kernel store of their own, shared by all of a run and by their child processes."""

import os
import tempfile

os.environ["NETWRIGHT_STORE"] = os.path.join(tempfile.mkdtemp(prefix="netwright-"), "kernels.db")
