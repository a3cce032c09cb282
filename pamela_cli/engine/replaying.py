"""What a learner computes for tasks, replayed from a CUDA graph if possible."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

from torch import Tensor

from pamela_cli.engine.graphs import Graphs, Tensors
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.tasks import Objective, Tasks


def replayed(
    graphs: Graphs,
    learner: Learner,
    objective: Objective,
    tasks: Tasks,
    expanded: tuple[Tensor, Tensor],
    how: Hashable,
    compute: Callable[[Learner, Tasks, tuple[Tensor, Tensor]], Tensors],
) -> Tensors:
    """What ``compute`` gives for the learner, the tasks and ``expanded``, Q and P over θ: the same tensors.

    ``how`` is everything else that its operations depend on. Backbones and objectives that are not
    ``recordable``, such as users' own modules, are computed as usual each time.
    """
    backbone, rule = learner.backbone, learner.rule

    def work(theta: Tensor, q: Tensor, p: Tensor, *given: Tensor) -> Tensors:
        own = replace(learner, backbone=backbone, rule=rule, theta=theta)
        return compute(own, Tasks(*given), (q, p))

    given = (tasks.support_x, tasks.support_y, tasks.query_x, tasks.query_y)
    inputs = (learner.theta.detach(), *expanded, *given)
    if not all(getattr(part, "recordable", False) for part in (backbone, objective)):
        return work(*inputs)
    # The objects themselves, which what is recorded holds on to: no later ones have their numbers.
    return graphs.call((id(backbone), id(rule), id(objective), how), work, *inputs)
