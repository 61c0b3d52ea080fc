"""Reuse freed memory on CPUs."""

import ctypes
import sys

# Parameters of glibc's mallopt (malloc.h), and a value that disables both.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = 2**30


def keep_freed_memory() -> bool:
    """Let this process reuse freed memory instead of returning it to the system.

    By default glibc returns the memory of large tensors when they are freed. The next iteration
    requests it again, and the system clears every page of it (docs/training.md). The most memory
    that a training needs stays the same.

    Returns:
        Whether the C library can be told: only glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return all(mallopt(name, _NEVER) == 1 for name in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
