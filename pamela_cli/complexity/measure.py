"""The table of costs as a document."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch

from pamela_cli.complexity.cases import Case, Work, count_flops
from pamela_cli.complexity.memory import peak_memories
from pamela_cli.complexity.timing import time_cases
from pamela_cli.console import Console
from pamela_cli.display.paper import TABLE_1, TABLE_1_UNSAID
from pamela_cli.engine.device import number_type
from pamela_cli.engine.memory_plan import fit, free_bytes, graph_bytes, kernel_bytes
from pamela_cli.engine.runner import DoesNotFitError, Plan, is_out_of_memory
from pamela_cli.environment import current_environment
from pamela_cli.errors import PamelaError

SHAPE = ("way", "shot", "query", "image_size", "channels", "width", "precision")
"""Settings that all rows share."""


def measure(cases: list[Case], device: torch.device, repetitions: int, console: Console) -> dict[str, Any]:
    """Measure the cases on ``device``; returns the document that ``--json`` prints.

    :class:`PamelaError` if memory is short.
    """
    config = cases[0].config
    environment = current_environment(device)
    with _enough_memory(device):
        plan = _plan(cases, device)
        with console.progress("peak memory", len(cases)) as bar:
            memory = []
            for peak in peak_memories(cases, plan):
                memory.append(peak)
                bar.update(len(memory))
        training, testing, runner = time_cases(cases, plan, repetitions, console)
    if runner.graphs.refused is not None:
        console.warn(f"{runner.graphs.refused}.")
    if runner.lowered:
        console.warn("memory ran short during the timing: not all times are of the same plan.")
    rows = [
        _counts(case, plan)
        | clock.record("train")
        | testing[case.config.method].record("test")
        | {"peak_memory_bytes": peak, "paper": _paper(case)}
        for case, clock, peak in zip(cases, training, memory, strict=True)
    ]
    return {
        "device": plan.device,
        **{name: getattr(config, name) for name in SHAPE},
        "repetitions": repetitions,
        "train_tasks_per_repetition": training[0].tasks,
        "test_tasks_per_repetition": testing[config.method].tasks,
        "plan": asdict(plan),
        "lowered": [asdict(smaller) for smaller in runner.lowered],
        "environment": environment,
        "paper_does_not_tell": TABLE_1_UNSAID,
        "rows": rows,
    }


def _plan(cases: list[Case], device: torch.device) -> Plan:
    """The plan by which training would compute the case that takes the most memory; all rows share it."""
    dtype = number_type(cases[0].config.precision)
    plan = Plan.choose(device, cases[0].config.meta_batch, convolutional=True, dtype=dtype)
    demands = []
    for case in cases:
        work = Work(case, torch.device("meta"))
        update, query = graph_bytes(work.learner, work.objective, work.tasks(1))
        besides = kernel_bytes(work.learner, device)
        demands.append((work.steps, update + besides, query + besides))
    heaviest = max(demands, key=lambda demand: demand[0] * demand[1] + demand[2])
    return fit(plan, *heaviest, free_bytes(device))


def _counts(case: Case, plan: Plan) -> dict[str, Any]:
    """The part of a row that is known without measuring."""
    theta, q, p = Work(case, torch.device("meta")).learner.rule.meta_parameters
    train_flops, test_flops = count_flops(case, plan)
    return {
        "method": case.config.method,
        "order": case.order,
        "theta": theta,
        "q": q,
        "p": p,
        "total": theta + q + p,
        "updates": case.config.steps,
        "skip_interval": case.config.skip_interval,
        "train_flops": train_flops,
        "test_flops": test_flops,
    }


def _paper(case: Case) -> dict[str, Any] | None:
    """The paper's line for a case in the paper's setting; its Table 1 has the second order alone."""
    c = case.config
    cost = TABLE_1.get(c.method)
    same = (c.image_size, c.channels, c.way, c.width) == (84, 3, 5, 64)
    if cost is None or not same or case.order == "first" or c.steps != cost.updates:
        return None
    return asdict(cost)


@contextmanager
def _enough_memory(device: torch.device) -> Iterator[None]:
    try:
        yield
    except (DoesNotFitError, RuntimeError) as error:
        # Where the images do not fit, PyTorch says so itself.
        if not isinstance(error, DoesNotFitError) and not is_out_of_memory(error):
            raise
        raise PamelaError(
            f"{device} does not have enough memory for these tasks; lower --image-size, --way, --shot, "
            "--query, --steps or --width."
        ) from error
