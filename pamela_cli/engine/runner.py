"""How a batch of tasks is worked through: how many at a time, and on how many threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from pamela_cli.engine.memory import keep_freed_memory
from pamela_cli.engine.tasks import Tasks

Result = TypeVar("Result")


@dataclass(frozen=True)
class Plan:
    """Where and how tasks are computed. It is recorded with a run: other plans round otherwise.

    ``workers`` threads each take ``tasks_at_a_time`` tasks (``judged_at_a_time`` where there is no
    meta-gradient) and compute them with ``threads`` threads inside PyTorch's operators. Sums over tasks
    are in order, so the number of workers leaves the bits alone. ``kept_updates`` is the number of updates
    whose graph is kept for the way back (None: all).
    """

    device: str
    tasks_at_a_time: int
    judged_at_a_time: int
    workers: int
    threads: int
    kept_updates: int | None = None

    @classmethod
    def choose(
        cls, device: torch.device, meta_batch: int, convolutional: bool, cores: int | None = None
    ) -> Plan:
        """The fastest plan known for a meta-batch of ``meta_batch`` tasks, on so many cores (None: all).

        On the CPU, convolutional tasks run side by side, since threads inside small operators gain
        little; a network of a few thousand numbers takes the whole meta-batch in one thread, since
        it spends its time between the operators.
        """
        if device.type != "cpu" or not convolutional:
            judged = 16 if convolutional else 250
            return cls(str(device), meta_batch, judged, workers=1, threads=1)
        cores = cores or available_cores()
        workers = min(cores, meta_batch)
        return cls(str(device), 1, 1, workers, threads=cores // workers)


def available_cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Runner:
    """Carries out a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.device = torch.device(plan.device)
        torch.set_num_threads(plan.threads)
        if self.device.type == "cpu":
            keep_freed_memory()
        self._pool = ThreadPoolExecutor(plan.workers) if plan.workers > 1 else None

    def map(self, function: Callable[[Tasks], Result], tasks: Tasks, at_a_time: int) -> list[Result]:
        """``function`` of each chunk of ``at_a_time`` tasks, in order."""
        chunks = list(tasks.chunks(at_a_time))
        if self._pool is None or len(chunks) == 1:
            return [function(chunk) for chunk in chunks]
        return list(self._pool.map(function, chunks))
