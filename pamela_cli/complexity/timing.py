"""Milliseconds per task, in rounds over all cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from pamela_cli.complexity.cases import Case, Work
from pamela_cli.console import Console
from pamela_cli.engine.device import synchronise
from pamela_cli.engine.graphs import times_until_recorded
from pamela_cli.engine.runner import Plan, Runner


def median_and_spread(samples: Sequence[float]) -> tuple[float, float]:
    """Median and interquartile range of times."""
    low, median, high = np.percentile(samples, (25, 50, 75)).tolist()
    return median, high - low


@dataclass
class Clock:
    """Milliseconds per task of one piece of work on ``tasks`` tasks: the first time, and what counts.

    After it has been done ``warmups`` times it is as fast as it goes.
    """

    name: str
    tasks: int
    work: Callable[[], None]
    warmups: int = 1
    warmup: float = 0.0
    samples: list[float] = field(default_factory=list)

    def take(self, device: torch.device, counts: bool) -> None:
        """Do the work once, from an idle device to an idle device."""
        synchronise(device)
        start = time.perf_counter()
        self.work()
        synchronise(device)
        elapsed = 1000 * (time.perf_counter() - start) / self.tasks
        if counts:
            self.samples.append(elapsed)
            return
        self.warmup = elapsed
        for _ in range(self.warmups - 1):
            self.work()

    def record(self, prefix: str) -> dict[str, Any]:
        """Median and interquartile range of what counts, and all that was timed."""
        median, spread = median_and_spread(self.samples)
        return {
            f"{prefix}_ms": median,
            f"{prefix}_ms_spread": spread,
            f"{prefix}_ms_samples": self.samples,
            f"{prefix}_ms_warmup": self.warmup,
        }


def time_cases(
    cases: list[Case], plan: Plan, repetitions: int, console: Console
) -> tuple[list[Clock], dict[str, Clock], Runner]:
    """Time training of each case, and testing of each method: testing does not depend on the order.

    As many tasks are taken at once as the plan has at work at a time. The runner tells of smaller plans that
    were taken when memory ran short, and of graphs that were refused (usually none).
    """
    device, runner = torch.device(plan.device), Runner(plan)
    works = [Work(case, device) for case in cases]
    train_tasks = works[0].tasks(plan.workers * plan.tasks_at_a_time)
    test_tasks = works[0].tasks(plan.workers * plan.judged_at_a_time)
    training: list[Clock] = []
    testing: dict[str, Clock] = {}
    for case, work in zip(cases, works, strict=True):
        name = case.config.method
        train, test = partial(work.train, train_tasks, runner), partial(work.test, test_tasks, runner)
        title, times = f"{name} training, {case.order} order", times_until_recorded(device)
        training.append(Clock(title, len(train_tasks), train, times))
        testing.setdefault(name, Clock(f"{name} testing", len(test_tasks), test, times))
    _take_rounds([*training, *testing.values()], device, repetitions, console)
    return training, testing, runner


def _take_rounds(clocks: list[Clock], device: torch.device, repetitions: int, console: Console) -> None:
    """A warm-up round and ``repetitions`` that count; in turns, so that a slow spell strikes all alike."""
    start = time.perf_counter()
    with console.progress("timing", (1 + repetitions) * len(clocks)) as bar:
        for repetition in range(1 + repetitions):
            which = f"round {repetition} of {repetitions}" if repetition else "warm-up"
            for i, clock in enumerate(clocks):
                bar.update(repetition * len(clocks) + i, f"{which}: {clock.name}")
                clock.take(device, counts=repetition > 0)
            if repetition == 0:
                seconds = time.perf_counter() - start
                console.say(f"warm-up round: {seconds:.1f} s, not counted; {repetitions} rounds follow")
