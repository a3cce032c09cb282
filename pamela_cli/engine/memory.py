"""Memory of the CPU: kept for the next tensor instead of returned to the system."""

from __future__ import annotations

import ctypes
import sys

# glibc's names for what `mallopt` sets.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Let this process keep the memory that tensors free; returns whether that worked (glibc on Linux).

    By default the C library hands large blocks back to the system at once, which gives them out again page
    by page, each zeroed: at 84×84 that took a quarter of the time of a meta-gradient. One arena serves all
    threads, since each would keep a peak of its own. Arenas that other threads have by then stay in use, by
    new threads too, and hand blocks above 64 MiB back as before. So it is to be called before any second
    thread asks for memory, be it an operator's or Python's.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    wanted = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20))
    return {mallopt(name, value) for name, value in wanted} == {1}
