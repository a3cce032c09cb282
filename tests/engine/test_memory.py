"""Freed memory is kept: in the end, the same work asks the system for next to no new pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import ctypes, multiprocessing, resource, sys, torch
from concurrent.futures import ThreadPoolExecutor
from pamela_cli.ablation import worker
from pamela_cli.engine.memory import keep_freed_memory
from pamela_cli.process_group import device_to_compute_on

SET_THP_DISABLE = 41
ctypes.CDLL(None).prctl(SET_THP_DISABLE, 1, 0, 0, 0)  # a huge page is one fault

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(18_000_000).sum()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def faults_in_threads():
    torch.set_num_threads(2)
    torch.ones(18_000_000).sum()
    torch.set_num_threads(1)
    keep_freed_memory()
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        return [sum(one.submit(faults).result() for one in (first, second)) for _ in range(5)]
"""

ALONE = "print(faults(), keep_freed_memory(), *[faults() for _ in range(5)])"

IN_A_COMMAND = """
if sys.argv[1] == "command":
    device_to_compute_on("cpu")
print(*faults_in_threads())
"""

IN_A_CELL = """
class Telling:
    def send(self, news):
        print(*faults_in_threads(), flush=True)

def cell():
    worker.train_cell = lambda job, listener: None
    worker.work(worker.Job({}, None, "cpu", None, 1, False, None, None), Telling())

context = multiprocessing.get_context("fork")
process = context.Process(target=cell)
process.start()
process.join()
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux")


def printed(script: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", FAULTS + script, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_freed_memory_is_kept() -> None:
    before, kept, *_, after = printed(ALONE)
    if kept != "True":
        pytest.skip("another C library than glibc")
    assert int(before) > 10_000, "the system did not take memory back: the test shows nothing"
    assert int(after) < 1_000


@pytest.mark.parametrize("script", [IN_A_COMMAND, IN_A_CELL], ids=["command", "cell"])
def test_it_is_kept_in_all_threads(script: str) -> None:
    """Operators on several threads leave arenas that cannot keep large blocks; so they come second."""
    if int(printed(IN_A_COMMAND, "late")[-1]) < 10_000:
        pytest.skip("nothing is handed back here, even if memory is kept late")
    assert int(printed(script, "command")[-1]) < 1_000
