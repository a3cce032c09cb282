"""How a run is going to be computed here: by the plan that it has recorded, or by the fastest that fits."""

from __future__ import annotations

from dataclasses import replace

from pamela_cli.config import Recorded
from pamela_cli.console import Console
from pamela_cli.engine.fitting import check_room, fit, free_bytes, graph_bytes, least_bytes
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.processes import Processes, neighbours
from pamela_cli.engine.runner import Plan
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
    share = _share(problem, processes)
    held = _graphs(problem, share)
    plan = Plan.choose(device, share, convolutional=problem.store is not None, cores=cores)
    free = free_bytes(device)
    if free is not None and device.type == "cpu":
        free //= neighbours()
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
    _graphs(problem, _share(problem, processes))
    return replace(plan, device=str(problem.device))


def check_room_to_judge(problem: Problem) -> None:
    """:class:`PamelaError` where memory does not suffice for one task, to be judged without a gradient."""
    _graphs(problem, tasks=1, copies=1)


def _graphs(problem: Problem, tasks: int, copies: int = _ADAM) -> tuple[int, int]:
    """The bytes of one task's graphs, once it is clear that there is room for so many tasks."""
    config, backbone, task = problem.config, problem.backbone, problem.task_shape()
    learner = Learner.of_shapes(backbone, update_rule(config, backbone), config.inner_lr, problem.dtype)
    held = graph_bytes(learner, problem.objective(), task)
    with saying_what_to_lower():
        needed = least_bytes(learner, task, tasks, held[1], copies)
        check_room("a task and what is learned", needed, problem.device)
    return held


def _share(problem: Problem, processes: Processes) -> int:
    """How many tasks of a meta-batch the largest share has."""
    return -(-problem.config.meta_batch // processes.size)
