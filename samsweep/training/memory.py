"""Memory that a training step frees is kept for the next one."""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
#: The most that glibc takes.
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have glibc keep what is freed instead of giving it back to the system.

    A step allocates and frees several copies of all weights. Given back each time, they come again
    as fresh pages that the kernel has to zero. The process keeps its peak of memory until it ends,
    which it had to have anyway.

    Returns:
        Whether there is a glibc to configure.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    taken = mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    return bool(taken and mallopt(_M_TRIM_THRESHOLD, _NEVER))
