"""Freed memory is kept: in the end, the same work asks the system for next to no new pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from concurrent.futures import ThreadPoolExecutor
from pamela_cli.engine.memory import keep_freed_memory
from pamela_cli.process_group import device_of

def faults(map):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        list(map(lambda _: torch.ones(18_000_000).sum(), range(2)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""

IN_ONE_THREAD = """
print(faults(map), keep_freed_memory(), *[faults(map) for _ in range(5)])
"""

IN_THREADS = """
device_of("cpu")
torch.set_num_threads(2)
torch.ones(18_000_000).sum()
torch.set_num_threads(1)
with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
    threads = first, second
    print(keep_freed_memory(), *[sum(one.submit(faults, map).result() for one in threads) for _ in range(5)])
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux")


def printed(script: str) -> list[str]:
    command = [sys.executable, "-c", FAULTS + script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_freed_memory_is_kept() -> None:
    before, kept, *_, after = printed(IN_ONE_THREAD)
    if kept != "True":
        pytest.skip("another C library than glibc")
    assert int(before) > 10_000, "the system did not take memory back: the test shows nothing"
    assert int(after) < 0.05 * int(before)


def test_it_is_kept_in_later_threads_once_there_is_a_device() -> None:
    """Operators on several threads may leave an arena that cannot keep large blocks; commands come first."""
    kept, first, *_, last = printed(IN_THREADS)
    if kept != "True":
        pytest.skip("another C library than glibc")
    assert int(first) > 1_000, "there was nothing to keep: the test shows nothing"
    assert int(last) < 1_000
