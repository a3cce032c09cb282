"""How much memory a block of code takes at its height."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1 << 20


def peak_memory() -> int:
    """Bytes of memory that this process has had at most since :func:`forget_peak`."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found.group(1))


def forget_peak() -> None:
    """Start anew from what the process has now: the peak of its whole life would hide any later one."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("peaks of memory are measured on Linux")


@contextmanager
def growth_below(limit: int) -> Iterator[None]:
    """The block must not take ``limit`` bytes more than there are at its start."""
    forget_peak()
    before = peak_memory()
    yield
    grown = peak_memory() - before
    assert grown < limit, f"{grown / MIB:.0f} MiB"
