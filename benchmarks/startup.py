"""How long it takes until the help appears, and until the first training step is done."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import store
from benchmarks.measures import Measure, seconds

TARGETS = {"pamela --help": 0.4, "pamela meta-train to its first step": 5.0}
"""Seconds that they may take; the first step with a prepared store on a CPU."""

PYTHON = [sys.executable, "-W", "ignore"]
PAMELA = [*PYTHON, "-m", "pamela_cli"]
LONGEST = 600
WARMUPS = 1


def measure(folder: Path, mebibytes: int, repetitions: int) -> list[Measure]:
    """Each in a fresh process, in turns, after a warm-up; files come from the system's cache."""
    path = folder / "random.h5"
    store.write(path, mebibytes)
    runs = (folder / f"run{turn}" for turn in itertools.count())
    works: dict[str, Callable[[], float]] = {
        "python, doing nothing": lambda: _timed([*PYTHON, "-c", "pass"]),
        "pamela --help": lambda: _timed([*PAMELA, "--help"]),
        "python, importing torch": lambda: _timed([*PYTHON, "-c", "import torch"]),
        "pamela meta-train to its first step": lambda: first_step(path, next(runs)),
    }
    samples: dict[str, list[float]] = {what: [] for what in works}
    for turn in range(WARMUPS + repetitions):
        for what, work in works.items():
            taken = work()
            if turn >= WARMUPS:
                samples[what].append(taken)
    return [Measure.of(what, taken, "s", TARGETS.get(what)) for what, taken in samples.items()]


def first_step(path: Path, runs: Path) -> float:
    """Seconds from the command until the run has written down its first step."""
    command = [*PAMELA, "meta-train", "--dataset", str(path), "--way", "5", "--shot", "1", "--device", "cpu"]
    command += [
        "--iterations",
        "1",
        "--val-tasks",
        "2",
        "--test-tasks",
        "2",
        "--run",
        "first",
        "--no-figures",
    ]
    command += ["--runs-dir", str(runs), "--quiet"]
    metrics = runs / "first" / "metrics.jsonl"
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() not in (None, 0) or time.perf_counter() - start > LONGEST:
                process.kill()
                raise RuntimeError(
                    f"pamela meta-train did not reach its first step: {process.communicate()[1]}"
                )
            time.sleep(0.002)
        return time.perf_counter() - start
    finally:
        if process.poll() is None:  # validation and test, which are not measured, end the run
            process.communicate()


def _timed(command: list[str]) -> float:
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True))
