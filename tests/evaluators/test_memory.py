"""Memory that is freed stays with the process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from evaluators.training.memory import keep_freed
keep_freed()
for _ in range(3):  # the first takes the memory
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(40_000_000 // 4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have ways of their own")
def test_tensors_of_equal_size_take_new_pages_once():
    faults = int(subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout)
    assert faults < 10_000, "40 MB are 9,766 pages, 20 times them 195,313"
