"""Engines against each other: first that they compute the same, then how long it takes them in turns."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks import child
from benchmarks.engines import ENGINES, OURS, REFERENCE
from benchmarks.machine import MatrixRate
from benchmarks.setting import Setting
from data_prep.errors import first_line
from pamela_cli.complexity.timing import median_and_spread
from pamela_cli.console import Console
from pamela_cli.engine.graphs import times_until_recorded

Row = dict[str, Any]
Value = TypeVar("Value")

SAME = 1e-8
"""Largest relative difference from the reference in float64."""

ROUNDING = {"cpu": 0.05, "cuda": 0.1}
"""The same in float32, or ten times the least: a ReLU that rounding opens makes a jump of 1 or 2 %.

On a GPU up to 5 % were seen.
"""

CHECKED_TASKS = 2
SHORTEST = 0.2
"""Seconds that one sample takes at least: shorter work is repeated within it."""


_WORK = {"train": child.train, "test": child.test}


class DifferentWorkError(Exception):
    """An engine does not compute the same: one sentence."""


class Process:
    """A process of its own, in which functions of :mod:`benchmarks.child` are called."""

    def __init__(self) -> None:
        self._pool = _fresh_process()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def call(self, function: Callable[..., Value], *arguments: Any) -> Value:
        """The function's result; what it raises, or RuntimeError if the process dies (the next is fresh)."""
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            self._pool = _fresh_process()
            raise RuntimeError("its process was killed, as happens when memory is short") from error

    def wake(self, device: str) -> Future[None]:
        """Let it load what every engine needs, and go on."""
        return self._pool.submit(child.wake, device)


class Processes:
    """A process for each engine, all started at once.

    On a GPU, where PyTorch counts memory itself, they serve one setting after the other; on the CPU each
    setting has new ones, since freed memory that the allocator keeps would hide what the next one takes.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Process] = {}
        self._open = ExitStack()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def of(self, names: Iterable[str], device: str) -> list[Process]:
        """Those of the engines, for the next setting."""
        if device == "cpu":
            self._end()
        missing = [name for name in names if name not in self._kept]
        self._kept |= {name: self._open.enter_context(Process()) for name in missing}
        for waking in [self._kept[name].wake(device) for name in missing]:
            with suppress(BrokenProcessPool):  # the first call says so
                waking.result()
        return [self._kept[name] for name in names]

    def _end(self) -> None:
        self._open.close()
        self._kept.clear()


def _fresh_process() -> ProcessPoolExecutor:
    # Spawned, not forked: threads and allocator settings of this process stay out of it.
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@dataclass
class Check:
    """An engine's relative differences from plain PyTorch, or why there are none.

    Of meta-gradient and test loss in float64, and of the meta-gradient in float32 from that in float64.
    """

    errors: dict[str, float] = field(default_factory=dict)
    failed: str | None = None


def check(names: list[str], setting: Setting, console: Console) -> dict[str, Check]:
    """Compare the engines' results; :class:`DifferentWorkError` if they differ by more than rounding."""
    exact = replace(setting, precision="float64", meta_batch=min(setting.meta_batch, CHECKED_TASKS))
    found = {name: Check() for name in names}
    with Process() as process, console.progress("the same gradient", len(names)) as bar:
        wanted, loss = process.call(child.results, REFERENCE, exact)
        for i, name in enumerate(names):
            bar.update(i, name)
            try:
                gradient, test_loss = process.call(child.results, name, exact)
                rounded, _ = process.call(child.results, name, replace(exact, precision="float32"))
            except (RuntimeError, MemoryError, ValueError) as error:  # ValueError: a method of other updates
                if name == OURS:  # what all others are compared with
                    raise DifferentWorkError(f"{name} fails: {first_line(error)}") from error
                found[name].failed = first_line(error)
                continue
            found[name].errors = {
                "gradient_error": _difference(gradient, wanted),
                "test_loss_error": abs(test_loss - loss) / abs(loss),
                "gradient_error_float32": _difference(rounded, wanted),
            }
    errors = {name: each.errors for name, each in found.items() if not each.failed}
    _judge(errors, ROUNDING[torch.device(setting.device).type])
    return found


def _judge(found: dict[str, dict[str, float]], rounding: float) -> None:
    least = min((errors["gradient_error_float32"] for errors in found.values()), default=0.0)
    limits = {"gradient_error": SAME, "test_loss_error": SAME}
    limits["gradient_error_float32"] = max(rounding, 10 * least)
    for name, errors in found.items():
        for what, limit in limits.items():
            if not errors[what] <= limit:  # NaN is not either
                raise DifferentWorkError(
                    f"{name} does different work: {what} is {errors[what]:.1e}, above {limit:.0e}"
                )


def _difference(found: list[float], wanted: list[float]) -> float:
    a, b = np.array(found), np.array(wanted)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@dataclass
class _Runner:
    """An engine in its process, and what was measured of it."""

    name: str
    process: Process
    warmup: dict[str, float] = field(default_factory=dict)
    pace: dict[str, float] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=lambda: {"train": [], "test": []})
    memory: int | None = None
    remarks: list[str] = field(default_factory=list)
    failed: str | None = None

    def attempt(self, work: Callable[[Setting], None], setting: Setting) -> None:
        """Do it, unless it failed before; that one engine runs out of memory does not end the others."""
        if self.failed is None:
            try:
                work(setting)
            except (RuntimeError, MemoryError) as error:
                self.failed = first_line(error)

    def start(self, setting: Setting) -> None:
        """Load, and do all twice: the warm-up, with the peak of memory, and then as fast as it goes."""
        self.process.call(child.load, self.name, setting)
        self.warmup["train"] = self.process.call(child.train, self.name, 1)
        self.memory = self.process.call(child.peak_memory, self.name)
        self.warmup["test"] = self.process.call(child.test, self.name, 1)
        # On a GPU the first times are many times as long: they load kernels, and record graphs.
        if (more := times_until_recorded(torch.device(setting.device)) - 1) > 0:
            for work in _WORK.values():
                self.process.call(work, self.name, more)
        self.pace = {what: self.process.call(work, self.name, 1) for what, work in _WORK.items()}

    def sample(self, setting: Setting) -> None:
        """One sample of training and of testing."""
        for what, work in _WORK.items():
            seconds = self.pace[what] * setting.meta_batch / 1000
            times = max(1, math.ceil(SHORTEST / seconds))
            self.samples[what].append(self.process.call(work, self.name, times))
        self.remarks = self.process.call(child.remarks, self.name)


def compare(
    checks: dict[str, Check], setting: Setting, repetitions: int, processes: Processes, console: Console
) -> list[Row]:
    """Time the engines that were checked, in turns; a row for each."""
    rate, flops = MatrixRate(setting.device, setting.precision), setting.flops()
    found = zip(checks.items(), processes.of(checks, setting.device), strict=True)
    runners = [_Runner(name, process, failed=each.failed) for (name, each), process in found]
    with console.progress("timing", (1 + repetitions) * len(checks)) as bar:
        for turn in range(1 + repetitions):
            rate.measure()
            for i, runner in enumerate(runners):
                bar.update(turn * len(runners) + i, runner.name)
                runner.attempt(runner.sample if turn else runner.start, setting)
    ours = next((runner for runner in runners if runner.name == OURS and not runner.failed), None)
    return [_row(runner, setting, ours, rate, flops, checks[runner.name].errors) for runner in runners]


def _row(
    runner: _Runner,
    setting: Setting,
    ours: _Runner | None,
    rate: MatrixRate,
    flops: tuple[int, int] | None,
    errors: dict[str, float],
) -> Row:
    entry = ENGINES[runner.name]
    row: Row = {
        **asdict(setting),
        "engine": runner.name,
        "title": entry.title,
        "version": entry.version if entry.distribution else torch.__version__,
        "peer": entry.peer,
        "failed": runner.failed,
        "remarks": runner.remarks,
        **errors,
        "peak_memory_bytes": runner.memory,
        "matrix_side": rate.side,
        "matrix_flops_per_second": float(np.median(rate.samples)),
    }
    for what, count in zip(("train", "test"), flops or (None, None), strict=True):
        row |= _times(what, runner, ours)
        limit = None if count is None else 1000 * count / row["matrix_flops_per_second"]
        median = row[f"{what}_ms"]
        row |= {
            f"{what}_flops": count,
            f"{what}_limit_ms": limit,
            f"{what}_share_of_limit": None if limit is None or median is None else limit / median,
        }
    return row


def _times(what: str, runner: _Runner, ours: _Runner | None) -> Row:
    """Median and interquartile range, and how many times the time of this project's MAML, round by round."""
    samples = runner.samples[what]
    row: Row = {f"{what}_ms_samples": samples, f"{what}_ms_warmup": runner.warmup.get(what)}
    row |= {f"{what}_ms": None, f"{what}_ms_spread": None}
    if samples:
        median, spread = median_and_spread(samples)
        row |= {f"{what}_ms": median, f"{what}_ms_spread": spread}
    ratio = None
    if ours is not None and len(samples) == len(ours.samples[what]) > 0:
        ratio = float(np.median(np.array(samples) / np.array(ours.samples[what])))
    return row | {f"{what}_times_ours": ratio}
