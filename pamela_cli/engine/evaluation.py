"""Accuracy or error on many tasks, after every inner update, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pamela_cli.engine.graphs import Tensors
from pamela_cli.engine.inner_loop import Learner, inner_loop
from pamela_cli.engine.intervals import Floats
from pamela_cli.engine.mirror import averaged, both_views
from pamela_cli.engine.once import once
from pamela_cli.engine.replaying import replayed
from pamela_cli.engine.runner import Runner
from pamela_cli.engine.tasks import Objective, Tasks

NormSource = Literal["query", "support"]


def check_norm_stats(value: str) -> None:
    """ValueError for anything that is not a :data:`NormSource`."""
    if value not in get_args(NormSource):
        raise ValueError(f"norm_stats must be 'query' or 'support', not {value!r}")


@dataclass(frozen=True)
class TaskScores:
    """Loss and score on the query set of each task: (tasks, updates + 1), the first before adaptation.

    If only the last update was requested, there is one column.
    """

    loss: Floats
    score: Floats

    @property
    def final(self) -> Floats:
        """Score of each task after the last update, (tasks,)."""
        return self.score[:, -1]


def evaluate(
    learner: Learner,
    objective: Objective,
    batches: Iterable[Tasks],
    runner: Runner,
    steps: int,
    norm_stats: NormSource = "query",
    *,
    every_step: bool = True,
    mirror_query: bool = False,
) -> Iterator[TaskScores]:
    """Adapt with ``steps`` updates and evaluate on the query sets, batch by batch.

    ``norm_stats``: whether batch norm normalises the queries among themselves ("query", the
    transductive default of MAML) or by the statistics of the support set alone ("support").
    ``mirror_query``: outputs are averaged over each image and its mirror image.
    """
    with torch.no_grad():
        expanded = learner.expand()

    how = steps, norm_stats, every_step, mirror_query

    def judge(tasks: Tasks) -> Tensors:
        return replayed(runner.graphs, adapt_and_judge, learner, objective, tasks, expanded, *how)

    for batch in batches:
        parts = runner.map(judge, batch, training=False)
        loss, score = (torch.cat([part[i] for part in parts]).double().cpu().numpy() for i in range(2))
        yield TaskScores(loss, score)


def adapt_and_judge(
    learner: Learner,
    objective: Objective,
    tasks: Tasks,
    expanded: tuple[Tensor, Tensor],
    steps: int,
    norm_stats: NormSource,
    every_step: bool,
    mirror_query: bool = False,
) -> tuple[Tensor, Tensor]:
    """Loss and score of T tasks on their query sets, (T, updates + 1) each, or (T, 1) for the last update.

    ``expanded`` are Q and P over θ; the others are as in :func:`evaluate`.
    """
    losses, scores = [], []
    views = both_views(tasks.query_x) if mirror_query else [tasks.query_x]
    with torch.no_grad(), once.kept():
        for j, theta in enumerate(inner_loop(learner, objective, tasks, expanded, steps)):
            if j < steps and not every_step:
                continue
            stats = learner.backbone.norm_stats(theta, tasks.support_x) if norm_stats == "support" else None
            outputs = averaged(partial(learner.backbone, theta, stats=stats or None), views)
            losses.append(objective.loss(outputs, tasks.query_y))
            scores.append(objective.score(outputs, tasks.query_y))
    return torch.stack(losses, 1), torch.stack(scores, 1)


def concatenate(parts: Iterable[TaskScores]) -> TaskScores:
    """The tasks of several parts, in order."""
    parts = list(parts)
    return TaskScores(np.concatenate([p.loss for p in parts]), np.concatenate([p.score for p in parts]))
