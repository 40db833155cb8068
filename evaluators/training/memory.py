"""What glibc's allocator does with the memory of tensors that are done with.

By default it hands large blocks back to the system at once, and the next operation waits for new pages, one fault for each 4 KB: a
network with large results can spend more time on them than on its arithmetic.
"""

import ctypes
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h
MOST, MOST_BEFORE_2_35 = 2**31 - 1, 2**25


@cache
def keep_freed() -> None:
    """From now on this process keeps memory that it has freed, for its next tensors. Nothing where there is no such allocator."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, MOST)
        if not mallopt(MMAP_THRESHOLD, MOST):
            mallopt(MMAP_THRESHOLD, MOST_BEFORE_2_35)
