"""Freed memory is kept: the same work asks the system for next to no new pages the second time."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from pamela_cli.engine.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        sum(torch.ones(10_000_000) for _ in range(3))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_freed_memory(), faults() and faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux")
def test_freed_memory_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    before, kept, after = done.stdout.split()
    if kept != "True":
        pytest.skip("another C library than glibc")
    assert int(before) > 10_000, "the system did not take memory back: the test shows nothing"
    assert int(after) < 0.05 * int(before)
