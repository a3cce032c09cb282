"""What this process may use of the machine."""

import os


def available_cores() -> int:
    """Return the number of CPU cores that this process may use, which others' settings can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
