"""Every kernel on other targets: the tests of kernels are run again for each, on its own code, emulated where this machine's processor
is of another kind (`emulated.py` says what that needs). Run with `pytest -m slow tests/backends/test_targets.py`; it takes minutes.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backends.lowering import ops
from backends.target import load
from tests.backends import emulated

FILES = sorted(str(path) for path in Path(__file__).parent.glob("test_*.py")
               if path != Path(__file__) and re.search(r"backends\.running import .*(check|run)\b", path.read_text()))
# Layers that are computed from packed weights by byte shuffles, on x86 alone; elsewhere their weights are unpacked at load.
SHUFFLED = {f"int8_linear_unpack_{name}" for name in ("bits", "pow2", "signs", "ternary")} | {"linear_unpack_codebook"}


@pytest.mark.slow
@pytest.mark.parametrize("name, without", [("x86-64-v3", set()), ("raspberry-pi-4", SHUFFLED), ("raspberry-pi-5", SHUFFLED)])
def test_every_kernel_computes_on_the_target_what_its_reference_does(name, without):
    target = load(name)
    if lacking := emulated.missing(target):
        pytest.skip(lacking)
    if not target.triple and "avx2" not in load("local").features:
        pytest.skip("this machine has no AVX2")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", *FILES], env={**os.environ, "NETWRIGHT_TEST_TARGET": name},
                          capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0
    compared = dict(re.findall(rf"^{name}: (\w+) (\d+)$", done.stdout, re.M))
    assert set(ops()) - set(compared) == without
