"""How much memory tasks take, and the plan that fits into the memory available."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_prep.machine import control_groups
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.runner import DoesNotFitError, Plan
from pamela_cli.engine.tasks import Objective, Tasks

USED_SHARE = 0.8
"""Share of the free memory that a plan may take; the rest is for what is not counted."""

KEPT_NUMBERS = 3
"""A graph holds on to at most so many numbers for each input, each output of a layer, and each parameter.

Measured: 2.0 to 2.9, towards 3 in the widest networks, where parameters outweigh all else.
"""

KERNEL_COPIES = 3
"""So many more numbers for each parameter where kernels compute on CUDA: weights as these take them."""

AT_ONCE = 0.15
"""Share of a query loss's graph that is in memory at least; measured with compiled functions at 84×84: 0.17
to 0.21 in a test, 0.35 to 0.46 in training, since the first block does not store all that is counted."""


def most_graph_bytes(learner: Learner, layer_outputs: Callable[[int], int], task: Tasks) -> tuple[int, int]:
    """An upper bound on what :func:`graph_bytes` finds, known without tracing anything.

    It is close, except where updates are of the first order.

    ``layer_outputs`` is that of the network, Conv4 or MLP: what is kept follows from what its layers put out.
    """
    inputs = (task.support_x, task.query_x)
    numbers = [x.numel() + layer_outputs(x.shape[1]) + learner.theta.numel() for x in inputs]
    update, query = (KEPT_NUMBERS * count * learner.theta.element_size() for count in numbers)
    return update, query


def kernel_bytes(learner: Learner, device: torch.device) -> int:
    """What a graph holds on ``device`` beyond :func:`most_graph_bytes` or :func:`graph_bytes`, at most."""
    copies = KERNEL_COPIES if device.type == "cuda" else 0
    return copies * learner.theta.numel() * learner.theta.element_size()


def graph_bytes(learner: Learner, objective: Objective, task: Tasks) -> tuple[int, int]:
    """Bytes that the graph of one update of one task holds on to, and at most that of its query loss.

    Of Conv4 and MLP, whose gradients keep what they need as attributes; what autograd saves does not count.
    Found from shapes alone, on tensors without content; ``task`` is one task (T = 1). PyTorch imports its
    compiler for that, which takes seconds.
    """
    shapes = learner.to(torch.device("meta"), learner.theta.dtype)
    one = Tasks(*(part.to("meta") for part in task.parts))
    theta = shapes.theta[None]
    held = []
    for x, y, differentiable in (
        (one.support_x, one.support_y, not learner.rule.method.first_order),
        (one.query_x, one.query_y, True),
    ):
        counted = _Counted()
        counted.note_within(shapes.backbone.loss_gradient(objective, theta, x, y, differentiable))
        held.append(counted.total)
    return held[0], held[1]


class _Counted:
    """Counts the bytes of the distinct tensors that an object has."""

    def __init__(self) -> None:
        self.total = 0
        self._seen: dict[int, Any] = {}

    def note_within(self, thing: object) -> None:
        if isinstance(thing, Tensor):
            storage = thing.untyped_storage()
            if storage._cdata not in self._seen:
                # Kept, so that no later storage can have its address.
                self._seen[storage._cdata] = storage
                self.total += storage.nbytes()
        elif isinstance(thing, list | tuple):
            for part in thing:
                self.note_within(part)
        elif hasattr(thing, "__dict__"):
            self.note_within(list(vars(thing).values()))


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a CUDA device, or of this machine (Linux); None if it is unknown."""
    if device.type == "cuda":
        # What this process has freed, it keeps for itself.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    # Also what a container or a job scheduler grants.
    return min([free, *(_granted_to(group, free) for group in control_groups())])


def _granted_to(group: Path, otherwise: int) -> int:
    """What the processes of one group may take yet."""
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        parts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Copies of files count as used, and are given up for the asking.
        files = sum(int(parts[name]) for name in ("active_file", "inactive_file"))
    except (OSError, LookupError, ValueError):  # no such group, or "max": no limit
        return otherwise
    return max(limit - used + files, 0)


def room_for(most: int) -> int:
    """How many bytes of a file may be read whole, if ``most`` are enough: at most half the free memory."""
    free = free_bytes(torch.device("cpu"))
    return most if free is None else min(most, free // 2)


def check_room(what: str, needed: float, device: torch.device, sharing: int = 1) -> None:
    """:class:`DoesNotFitError` if ``what`` needs more than its part of the free memory, which some share."""
    free = free_bytes(device)
    if free is not None and needed > free // sharing:
        gib = 1 << 30
        among = f", which {sharing} share" * (sharing > 1)
        there = f"{device} has {free / gib:,.1f} GiB free{among}"
        raise DoesNotFitError(f"{what} need {needed / gib:,.1f} GiB of memory, but {there}")


def least_bytes(learner: Learner, task: Tasks, tasks: int, query_bytes: int, copies: int) -> float:
    """Bytes that every plan needs, for ``tasks`` of that shape of which one is computed at a time.

    So many ``copies`` of what is learned, the tasks' inputs, θ after each update, Q and P over θ, and a part
    of the graph of the query loss, which has ``query_bytes``.
    """
    learned = sum(t.nbytes for t in (learner.theta, learner.q, learner.p))
    inputs = sum(t.nbytes for t in (task.support_x, task.query_x))
    over_theta = learner.rule.steps + 1 + len(learner.q) + len(learner.p)
    return copies * learned + tasks * inputs + over_theta * learner.theta.nbytes + AT_ONCE * query_bytes


def fit(plan: Plan, updates: int, update_bytes: int, query_bytes: int, free: int | None) -> Plan:
    """The plan with as many tasks at a time, in training and in tests, and graphs kept, as memory allows.

    Fewer tasks at a time on CUDA and fewer graphs kept before fewer workers on the CPU: in the order of what
    they cost. A plan for one task that keeps nothing is returned even if it will not fit.
    """
    if free is None:
        return plan
    budget = USED_SHARE * free

    def needed(tasks: int, kept: int) -> float:
        return tasks * _training_bytes(kept, update_bytes, query_bytes)

    tasks = plan.tasks_at_a_time
    while tasks > 1 and plan.workers * needed(tasks, updates) > budget:
        tasks = -(-tasks // 2)
    kept = updates
    while kept and plan.workers * needed(tasks, kept) > budget:
        kept -= 1
    plan = replace(plan, tasks_at_a_time=tasks, kept_updates=None if kept == updates else kept)
    plan = fewer_workers(plan, updates, update_bytes, query_bytes, free)
    return fit_to_judge(plan, update_bytes, query_bytes, free)


def fewer_workers(plan: Plan, updates: int, update_bytes: int, query_bytes: int, free: int | None) -> Plan:
    """The plan with as many workers as memory allows, at least one; this does not change the bits."""
    kept = updates if plan.kept_updates is None else min(plan.kept_updates, updates)
    needed = plan.tasks_at_a_time * _training_bytes(kept, update_bytes, query_bytes)
    workers = plan.workers
    while workers > 1 and free is not None and workers * needed > USED_SHARE * free:
        workers -= 1
    return replace(plan, workers=workers)


def _training_bytes(kept: int, update_bytes: int, query_bytes: int) -> int:
    """Bytes of the graphs of one task in training, of which those of ``kept`` updates are there at once."""
    return max(kept, 1) * update_bytes + 2 * query_bytes


def fit_to_judge(plan: Plan, update_bytes: int, query_bytes: int, free: int) -> Plan:
    """The plan with as many tasks at a time without a meta-gradient as memory allows, at least one."""
    judged, workers = plan.judged_at_a_time, plan.workers
    needed = max(update_bytes, query_bytes)  # each is given back before the next is made
    while judged > 1 and workers * judged * needed > USED_SHARE * free:
        judged = -(-judged // 2)
    while workers > 1 and workers * needed > USED_SHARE * free:
        workers -= 1
    return replace(plan, judged_at_a_time=judged, workers=workers)


def images_fit(size: int, free: int) -> bool:
    """Whether images of so many bytes are to lie on a GPU: the tasks need room beside them."""
    return size <= free // 2
