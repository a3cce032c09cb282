"""How a run is going to be computed here: by the plan that it has recorded, or by the fastest that fits."""

from __future__ import annotations

from dataclasses import replace

from data_prep.machine import available_cores
from pamela_cli.config import Recorded
from pamela_cli.console import Console
from pamela_cli.engine.fitting import check_room, fit, free_bytes, graph_bytes, least_bytes
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.processes import Processes, neighbours
from pamela_cli.engine.runner import Plan
from pamela_cli.engine.tasks import Tasks
from pamela_cli.judging import saying_what_to_lower
from pamela_cli.problem import Problem, update_rule

_ADAM = 4
"""What training holds of each learned number: itself, its gradient and two moments."""


def new_plan(
    problem: Problem, processes: Processes, cores: int | None = None, low_memory: bool = False
) -> Plan:
    """The fastest plan that fits into the device's free memory, for this process's share of the work.

    :class:`PamelaError` where none can.
    """
    config, device = problem.config, problem.device
    share, images = _share(problem, processes), _images_in_training(problem)
    held = _graphs(problem, problem.task_shape(), share, images)
    plan = Plan.choose(device, share, convolutional=problem.store is not None, cores=cores)
    free = free_bytes(device)
    if free is not None:
        if device.type == "cpu":
            # Whoever has a share of the cores has that share of the memory.
            free //= max(neighbours(), available_cores() // (cores or available_cores()))
        free = max(free - images, 0)
    plan = fit(plan, config.steps or 0, *held, free)
    return replace(plan, processes=processes.size, kept_updates=0 if low_memory else plan.kept_updates)


def same_plan(recorded: Recorded, problem: Problem, processes: Processes, console: Console) -> Plan:
    """The plan that a run has recorded, to go on to the same bits.

    On another kind of device, or with another number of processes, a new one; as above where none can.
    """
    plan = Plan.recorded(recorded.get("plan", {}))
    if plan is None:
        console.warn(
            "[plan] in the run's config.toml does not say how it was computed; it goes on as it is fastest "
            "here, which may round otherwise."
        )
        return new_plan(problem, processes)
    if plan.device.partition(":")[0] != problem.device.type or plan.processes != processes.size:
        return new_plan(problem, processes)
    _graphs(problem, problem.task_shape(), _share(problem, processes), _images_in_training(problem))
    return replace(plan, device=str(problem.device))


def check_room_to_judge(problem: Problem, split: str, task: Tasks) -> None:
    """:class:`PamelaError` where memory does not suffice for such a task, to be judged without a gradient."""
    _graphs(problem, task, tasks=1, images=problem.image_bytes(split), copies=1)


def _images_in_training(problem: Problem) -> int:
    """The bytes of the images that are there while it trains, or while it tests, whichever are more.

    Those that do not fit on a GPU stay beside it.
    """
    images = max(problem.image_bytes("train", "val"), problem.image_bytes("val", "test"))
    return images if problem.device.type == "cpu" else 0


def _graphs(problem: Problem, task: Tasks, tasks: int, images: int, copies: int = _ADAM) -> tuple[int, int]:
    """The bytes of one task's graphs, once it is clear that so many tasks, and the images, have room."""
    config, backbone = problem.config, problem.backbone
    learner = Learner.of_shapes(backbone, update_rule(config, backbone), config.inner_lr, problem.dtype)
    held = graph_bytes(learner, problem.objective(), task)
    with saying_what_to_lower():
        needed = least_bytes(learner, task, tasks, held[1], copies)
        what = "a task, what is learned, and the images" if images else "a task and what is learned"
        check_room(what, needed + images, problem.device)
    return held


def _share(problem: Problem, processes: Processes) -> int:
    """How many tasks of a meta-batch the largest share has."""
    return -(-problem.config.meta_batch // processes.size)
