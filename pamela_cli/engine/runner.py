"""How a batch of tasks is computed: how many at a time, and on how many threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from data_prep.errors import first_line
from data_prep.machine import available_cores
from pamela_cli.engine.compiling import can_be_compiled, use_compiled
from pamela_cli.engine.graphs import GraphMemory, Graphs
from pamela_cli.engine.kernels.beside import beside
from pamela_cli.engine.memory import keep_freed_memory
from pamela_cli.engine.processes import Processes, neighbours
from pamela_cli.engine.tasks import Tasks
from pamela_cli.untrusted import is_count

Result = TypeVar("Result")

# What settings allow, and more cores than a machine has.
_MOST_TASKS, _MOST_UPDATES, _MOST_CORES = 4096, 1000, 1024


@dataclass(frozen=True)
class Plan:
    """Where and how tasks are computed. It is recorded with a run: another plan rounds differently.

    ``workers`` threads each take ``tasks_at_a_time`` tasks (``judged_at_a_time`` without a meta-gradient)
    and compute them with ``threads`` threads inside PyTorch's operators. Sums over tasks are in order, so
    the number of workers does not affect the bits. ``kept_updates`` is the number of updates whose graph is
    kept for the backward pass (None: all); ``compiled`` whether this project's own code for the device
    computes the layers (``compiling.py``); ``processes`` how many compute this way, each its share.
    ``low_memory``: the user asked to keep no graphs, so that this holds for other devices, too.
    """

    device: str
    tasks_at_a_time: int
    judged_at_a_time: int
    workers: int
    threads: int
    kept_updates: int | None = None
    compiled: bool = False
    processes: int = 1
    low_memory: bool = False

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> Plan | None:
        """The plan that a run has recorded; None if it is not a plan: run folders come from anybody."""
        try:
            plan = cls(**record)
        except TypeError:
            return None
        at_a_time = (plan.tasks_at_a_time, plan.judged_at_a_time, plan.processes)
        threads = (plan.workers, plan.threads)
        sound = (
            isinstance(plan.device, str)
            and all(type(count) is int and 1 <= count <= _MOST_TASKS for count in (*at_a_time, *threads))
            and plan.workers * plan.threads <= _MOST_CORES
            and (plan.kept_updates is None or is_count(plan.kept_updates, _MOST_UPDATES))
            and isinstance(plan.compiled, bool)
            and isinstance(plan.low_memory, bool)
        )
        return plan if sound else None

    @classmethod
    def choose(
        cls,
        device: torch.device,
        meta_batch: int,
        convolutional: bool,
        cores: int | None = None,
        dtype: torch.dtype = torch.float32,
        compiled: bool = True,
    ) -> Plan:
        """The fastest plan known for a meta-batch of ``meta_batch`` tasks of ``dtype``, on so many cores.

        None: all, or its share if several processes run on this machine. On the CPU, convolutional
        tasks run side by side, since threads inside small operators gain little; a network of a few
        thousand numbers takes the whole meta-batch in one thread, since its time is spent between the
        operators. ``compiled`` off: without this project's own code for the device.
        """
        if device.type != "cpu" or not convolutional:
            judged = 16 if convolutional else 250
            # The kernels compute in float32; to try them takes a while.
            own = compiled and convolutional and dtype == torch.float32 and can_be_compiled(device)
            return cls(str(device), meta_batch, judged, workers=1, threads=1, compiled=own)
        cores = cores or max(1, available_cores() // neighbours())
        workers = min(cores, meta_batch)
        own = compiled and can_be_compiled()
        return cls(str(device), 1, 1, workers, threads=cores // workers, compiled=own)

    def smaller(self, training: bool) -> Plan | None:
        """The next plan that takes less memory, in training or without a meta-gradient; None: no such.

        Fewer tasks at a time, then no graph kept, then fewer workers: in the order of what they cost.
        """
        if training and self.tasks_at_a_time > 1:
            return replace(self, tasks_at_a_time=-(-self.tasks_at_a_time // 2))
        if not training and self.judged_at_a_time > 1:
            return replace(self, judged_at_a_time=-(-self.judged_at_a_time // 2))
        if training and self.kept_updates != 0:
            return replace(self, kept_updates=0)
        if self.workers > 1:
            return replace(self, workers=self.workers // 2)
        return None


class DoesNotFitError(Exception):
    """Not even the smallest plan fits into memory: one sentence."""


def settle_process(plan: Plan) -> None:
    """Set threads, compiled functions and the allocator for the whole process, as the plan says."""
    device = torch.device(plan.device)
    if device.type == "cpu":
        keep_freed_memory()
    torch.set_num_threads(plan.threads)
    if device.type == "cuda" and device.index is not None:  # "cuda" alone is the current one
        torch.cuda.set_device(device)  # where Triton starts kernels
    use_compiled(plan.compiled, device)


class Runner:
    """Carries out a plan, and switches to a smaller one if memory runs out.

    ``lowered`` are the plans it switched to, in order; results of another plan are equal up to rounding.
    ``processes`` are those that compute the same tasks by such plans. ``graphs`` is what is recorded of
    computing tasks, ``drawing`` of drawing them: where one cannot be, the other may. With ``settles`` off,
    the settings of this process are left alone: it is somebody else's program.
    """

    def __init__(self, plan: Plan, processes: Processes | None = None, settles: bool = True) -> None:
        self.plan = plan
        self.processes = processes or Processes()
        self.lowered: list[Plan] = []
        self.device = torch.device(plan.device)
        memory = GraphMemory()
        self.graphs = Graphs(self.device, memory=memory)
        self.drawing = Graphs(self.device, "drawing tasks", same=0.0, memory=memory)
        self._told: set[str] = set()
        self._pool = _pool(plan)
        if settles:
            settle_process(plan)

    def refusals(self) -> list[str]:
        """Why something cannot be recorded: sentences that were not returned before."""
        found = [each.refused for each in (self.graphs, self.drawing) if each.refused is not None]
        new = [why for why in found if why not in self._told]
        self._told.update(new)
        return new

    def make_room(self) -> bool:
        """Where memory ran out: give free what is recorded; returns whether there was any."""
        made = self.graphs.make_room() | self.drawing.make_room()
        if made:
            torch.cuda.empty_cache()
        return made

    def forget_graphs(self) -> None:
        """Discard what is recorded, and free its memory."""
        for graphs in (self.graphs, self.drawing):
            graphs.forget()

    def map(self, function: Callable[[Tasks], Result], tasks: Tasks, training: bool = True) -> list[Result]:
        """``function`` of each chunk of tasks, in order; repeated with a smaller plan if out of memory."""
        while True:
            try:
                return self._map(function, tasks, training)
            except BaseException as error:
                beside.forget(self.device)  # whatever work broke off by, as Ctrl-C
                if not isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one
                    raise
                smaller = self.plan.smaller(training)
                if not is_out_of_memory(error, retries=smaller is not None):
                    raise
                reason = first_line(error)
            # Out of the except clause: the error holds on to the tensors that did not fit.
            if self.make_room():  # that may be enough
                continue
            if self._pool is not None:  # so do tasks that are still at work
                self._pool.shutdown(wait=True, cancel_futures=True)
            if smaller is None:
                raise DoesNotFitError(
                    f"a single task does not fit into the memory of {self.device} ({reason})"
                )
            self.plan, self._pool = smaller, _pool(smaller)
            self.lowered.append(smaller)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _map(self, function: Callable[[Tasks], Result], tasks: Tasks, training: bool) -> list[Result]:
        chunks = list(tasks.chunks(self.plan.tasks_at_a_time if training else self.plan.judged_at_a_time))
        if self._pool is None or len(chunks) == 1:
            return [function(chunk) for chunk in chunks]
        return list(self._pool.map(function, chunks))


def _pool(plan: Plan) -> ThreadPoolExecutor | None:
    return ThreadPoolExecutor(plan.workers) if plan.workers > 1 else None


def is_out_of_memory(error: RuntimeError, retries: bool = False) -> bool:
    """CUDA's allocator has an exception of its own; the CPU's, CUDA's libraries and Triton say it in words.

    Those of cuDNN are the same where the workspace of no algorithm fits and where it has none for this
    device: they count only for one who ``retries`` with less, and believes them in the end.
    """
    words = ["can't allocate memory", "out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED"]
    words += ["unable to find an engine to execute this computation"] if retries else []
    return isinstance(error, torch.OutOfMemoryError) or any(each in str(error) for each in words)
