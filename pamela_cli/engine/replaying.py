"""How tasks are drawn, and what a learner computes for them, replayed from CUDA graphs if possible."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

import torch
from torch import Tensor

from pamela_cli.engine.episodes import EpisodeSource, Indices
from pamela_cli.engine.graphs import Graphs, Tensors
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.runner import Runner, is_out_of_memory
from pamela_cli.engine.tasks import Objective, Tasks


def replayed(
    graphs: Graphs,
    function: Callable[..., Tensors],
    learner: Learner,
    objective: Objective,
    tasks: Tasks,
    expanded: tuple[Tensor, Tensor],
    *settings: Hashable,
) -> Tensors:
    """``function(learner, objective, tasks, expanded, *settings)``, where ``expanded`` are Q and P over θ.

    Backbones and objectives that are not ``recordable``, such as users' own modules, are computed as usual
    each time.
    """
    backbone, rule = learner.backbone, learner.rule

    def work(theta: Tensor, q: Tensor, p: Tensor, *given: Tensor) -> Tensors:
        own = replace(learner, backbone=backbone, rule=rule, theta=theta)
        return function(own, objective, Tasks(*given), (q, p), *settings)

    inputs = (learner.theta.detach(), *expanded, *tasks.parts)
    if not all(getattr(part, "recordable", False) for part in (backbone, objective)):
        return work(*inputs)
    # The objects themselves, which what is recorded holds on to: no later ones have their numbers.
    return graphs.call((function, id(backbone), id(rule), id(objective), settings), work, *inputs)


def drawn(runner: Runner, source: EpisodeSource, seed: int, step: int, indices: Indices) -> Tasks:
    """What ``source`` draws, by two hundred tiny operations, which take longer to launch than they run.

    Sources of which no graph can be made, such as users' own functions, draw as usual.
    """
    draw: Callable[..., Tasks] = source.draw
    if not (runner.drawing.in_use and getattr(source, "recordable", False)):
        return draw(seed, step, indices)

    def work(at: Tensor) -> Tensors:
        return draw(seed, at, indices).parts

    at = torch.full((), step, dtype=torch.int64, device=runner.device)
    try:
        return Tasks(*runner.drawing.call(("tasks", id(source), seed, indices), work, at))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # Out of the except clause: the error holds on to the tensors that did not fit.
    runner.make_room()
    return source.draw(seed, step, indices)
