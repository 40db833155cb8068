"""What glibc's allocator does with the memory of tensors that are done with.

By default it hands large blocks back to the system at once, and the next operation waits for new pages, one fault for each 4 KB: a
network with large results can spend more time on them than on its arithmetic.
"""

import ctypes
import platform
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h
MOST, ALWAYS_ALLOWED = 2**31 - 1, 2**25  # an int, and what versions take that refuse more


@cache
def keep_freed() -> None:
    """From now on this process keeps memory that it has freed, for its next tensors. Nothing where the allocator is another."""
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(TRIM_THRESHOLD, MOST)
    if not mallopt(MMAP_THRESHOLD, MOST):
        mallopt(MMAP_THRESHOLD, ALWAYS_ALLOWED)
