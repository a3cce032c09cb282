"""How a run will be computed here: by the plan that it has recorded, or by the fastest one that fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from data_prep.machine import available_cores
from pamela_cli.config import Recorded
from pamela_cli.console import Console
from pamela_cli.engine.compiling import FORBIDDEN, why_not_compiled
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.memory_plan import (
    check_room,
    fewer_workers,
    fit,
    fit_to_judge,
    free_bytes,
    graph_bytes,
    images_fit,
    kernel_bytes,
    least_bytes,
    most_graph_bytes,
)
from pamela_cli.engine.processes import Processes, neighbours
from pamela_cli.engine.runner import Plan
from pamela_cli.engine.tasks import Tasks
from pamela_cli.judging import saying_what_to_lower
from pamela_cli.problem import Problem, update_rule

_ADAM = 4
"""What training holds of each meta-parameter: itself, its gradient and two moments."""


@dataclass(frozen=True)
class Share:
    """What a run may use: so many CPU cores (None: all), and the memory of one of ``cells`` at a time."""

    cores: int | None = None
    cells: int = 1


ALL = Share()


def new_plan(
    problem: Problem, processes: Processes, console: Console, share: Share = ALL, low_memory: bool = False
) -> Plan:
    """The fastest plan that fits into the device's free memory, for this process's share of the work.

    What keeps it from being faster is said. :class:`PamelaError` if none can.
    """
    config, device = problem.config, problem.device
    tasks, images = _tasks(problem, processes), _images_in_training(problem, share.cells)
    convolutional = not problem.is_sine
    fastest = Plan.choose(device, tasks, convolutional, cores=share.cores, dtype=problem.dtype)
    free = _free(problem, share.cells, images)

    def fitted(update_bytes: int, query_bytes: int) -> Plan:
        return fit(fastest, 0 if low_memory else config.steps or 0, update_bytes, query_bytes, free)

    plan = _fitted(problem, problem.task_shape(), tasks, images, fastest, fitted, share.cells)
    if convolutional and not plan.compiled and (slower := slower_here(device)):
        console.warn(slower)
    kept = 0 if low_memory else plan.kept_updates
    return replace(plan, processes=processes.size, kept_updates=kept, low_memory=low_memory)


def same_plan(
    recorded: Recorded, problem: Problem, processes: Processes, console: Console, share: Share = ALL
) -> Plan:
    """The plan that a run has recorded, to go on to the same bits; with fewer workers where it must be.

    On another kind of device, or with another number of processes, a new one. :class:`PamelaError` if none
    fits into memory.
    """
    plan = Plan.recorded(recorded.get("plan", {}))
    if plan is None:
        console.warn(
            "[plan] in the run's config.toml does not say how it was computed; it continues in the way "
            "that is fastest here, which may round differently."
        )
        return new_plan(problem, processes, console, share)
    if plan.device.partition(":")[0] != problem.device.type or plan.processes != processes.size:
        return new_plan(problem, processes, console, share, plan.low_memory)
    images = _images_in_training(problem, share.cells)
    same = replace(plan, device=str(problem.device))
    if problem.device.type == "cpu":
        cores = share.cores or max(1, available_cores() // neighbours())
        same = replace(same, workers=min(plan.workers, max(1, cores // plan.threads)))
    free = _free(problem, share.cells, images)

    def fitted(update_bytes: int, query_bytes: int) -> Plan:
        return fewer_workers(same, problem.config.steps or 0, update_bytes, query_bytes, free)

    tasks = _tasks(problem, processes)
    return _fitted(problem, problem.task_shape(), tasks, images, same, fitted, share.cells)


def slower_here(device: torch.device) -> str | None:
    """A sentence on why images take longer on ``device`` than they could; None if it is as fast as can be."""
    why = why_not_compiled(device)
    if why in (None, FORBIDDEN):
        return None
    if device.type == "cpu":
        return (
            "Training on images takes about twice as long on the CPU as it could, for want of compiled "
            f"functions ({why}); install gcc."
        )
    return (
        f"Training on images takes several times as long on {device} as it could, for want of this "
        f"project's kernels ({why}); they need Triton, a C compiler, and an NVIDIA GPU of the Ampere "
        "generation or newer."
    )


def plan_to_judge(problem: Problem, split: str, task: Tasks, count: int) -> Plan:
    """The fastest plan that fits for ``count`` such tasks, to be judged without a gradient.

    Of image tasks, a CPU takes one on each core, however few a meta-batch has. :class:`PamelaError` if none
    fits into memory.
    """
    images = _placed(problem, 1, split)
    convolutional = not problem.is_sine
    fastest = Plan.choose(problem.device, count, convolutional, dtype=problem.dtype)
    free = _free(problem, 1, images)

    def fitted(update_bytes: int, query_bytes: int) -> Plan:
        return fastest if free is None else fit_to_judge(fastest, update_bytes, query_bytes, free)

    return _fitted(problem, task, 1, images, fastest, fitted, copies=1)


def _free(problem: Problem, cells: int, images: int) -> int | None:
    """The bytes that are this run's to compute with, beside its images; None if it is unknown."""
    free = free_bytes(problem.device)
    if free is None:
        return None
    return max(free // _sharing(problem.device, cells) - images, 0)


def _sharing(device: torch.device, cells: int) -> int:
    """How many share the memory of a device: ``cells``, or processes on a CPU."""
    return max(neighbours() if device.type == "cpu" else 1, cells)


def _images_in_training(problem: Problem, cells: int) -> int:
    """The bytes of the images that are there while it trains, or while it tests, whichever are more."""
    return max(_placed(problem, cells, "val", "train"), _placed(problem, cells, "val", "test"))


def _placed(problem: Problem, cells: int, *splits: str) -> int:
    """The bytes that the images of these splits, loaded in this order, take where tasks are computed.

    Those that find too little room on a GPU, which so many ``cells`` share, stay beside it.
    """
    free = free_bytes(problem.device) if problem.device.type == "cuda" else None
    taken = 0
    for size in map(problem.image_bytes, splits):
        if free is None or images_fit(size, free // cells - taken):
            taken += size
    return taken


def _fitted(
    problem: Problem,
    task: Tasks,
    tasks: int,
    images: int,
    fastest: Plan,
    fitted: Callable[[int, int], Plan],
    cells: int = 1,
    copies: int = _ADAM,
) -> Plan:
    """The plan that ``fitted`` makes of the bytes of an update's graph and of that of the query loss.

    A bound on them is known at once; they are found out only where the ``fastest`` plan might not fit by it.
    :class:`PamelaError` unless one of so many ``tasks`` at a time, and the images, have room.
    """
    config, backbone, device = problem.config, problem.backbone, problem.device
    learner = Learner.of_shapes(backbone, update_rule(config, backbone), config.inner_lr, problem.dtype)
    besides = kernel_bytes(learner, device)
    held = [each + besides for each in most_graph_bytes(learner, backbone.layer_outputs, task)]
    free, sharing = free_bytes(device), _sharing(device, cells)
    needed = least_bytes(learner, task, tasks, held[1], copies) + images
    if fitted(*held) == fastest and (free is None or needed <= free // sharing):
        return fastest
    with saying_what_to_lower():
        held = [each + besides for each in graph_bytes(learner, problem.objective(), task)]
        needed = least_bytes(learner, task, tasks, held[1], copies) + images
        what = "a task, what is learned, and the images" if images else "a task and what is learned"
        check_room(what, needed, device, sharing)
    return fitted(*held)


def _tasks(problem: Problem, processes: Processes) -> int:
    """How many tasks of a meta-batch the largest share has."""
    return -(-problem.config.meta_batch // processes.size)
