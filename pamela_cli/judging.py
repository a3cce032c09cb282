"""The learner that a run produced, evaluated on a fixed list of tasks, and how it fits sine waves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pamela_cli.config import Config
from pamela_cli.engine.checkpoint import Checkpoint, CheckpointError
from pamela_cli.engine.evaluation import NormSource, TaskScores, concatenate, evaluate
from pamela_cli.engine.inner_loop import Learner, inner_loop
from pamela_cli.engine.intervals import Floats
from pamela_cli.engine.runner import DoesNotFitError, Runner
from pamela_cli.engine.tasks import Objective, Tasks
from pamela_cli.errors import PamelaError, UsageError
from pamela_cli.problem import Problem, TaskSet, network, of_classes
from pamela_cli.report.rerun import resume_command
from pamela_cli.runs import RunFolder

SHOWN_WAVES = 3
"""Test waves whose fits a figure shows."""


def judge(
    learner: Learner,
    objective: Objective,
    tasks: TaskSet,
    runner: Runner,
    steps: int,
    on_batch: Callable[[int], None],
    *,
    norm_stats: NormSource = "query",
    every_step: bool = True,
    mirror_query: bool = False,
) -> TaskScores:
    """Scores of all tasks, in order; each process scores its share, and all processes receive all scores.

    ``on_batch`` hears the number judged so far, and may raise to stop where there is one process.
    """
    plan, processes = runner.plan, runner.processes
    batches = tasks.batches(2 * plan.workers * plan.judged_at_a_time, processes.share(tasks.count))
    parts = []
    done = 0
    with saying_what_to_lower():
        for part in evaluate(
            learner, objective, batches, runner, steps, norm_stats,
            every_step=every_step, mirror_query=mirror_query,
        ):  # fmt: skip
            parts.append(part)
            done += len(part.final)
            on_batch(min(done * processes.size, tasks.count))
    own = concatenate(parts)
    placed = [processes.placed(torch.from_numpy(v), tasks.count) for v in (own.loss, own.score)]
    loss, score = (values.numpy() for values in processes.sum(placed))
    return TaskScores(loss, score)


@contextmanager
def saying_what_to_lower() -> Iterator[None]:
    """Turn the engine's word that a task does not fit into a sentence for the user."""
    try:
        yield
    except DoesNotFitError as error:
        raise PamelaError(
            f"{error}; lower --way, --shot, --query, --steps, --width or the image size."
        ) from error


def load_learner(folder: RunFolder, problem: Problem) -> Learner:
    """The learner of a run's best checkpoint."""
    if not folder.best.exists() and not folder.summary_file.exists():
        raise PamelaError(
            f"{folder.path} has no best.safetensors yet: it has not been validated; continue it with "
            f"`{resume_command(folder.path)}`."
        )
    with saying_what_to_lower():
        learner = problem.learner()
    try:
        Checkpoint.read(folder.best, learner.rule).restore(learner)
    except CheckpointError as error:
        raise PamelaError(
            f"{folder.path} cannot be used: {error}; `{resume_command(folder.path)}` "
            "says how to train it again."
        ) from error
    _check_alike(learner, folder)
    return learner


def _check_alike(learner: Learner, folder: RunFolder) -> None:
    """:class:`PamelaError` for a checkpoint whose classes differ, of settings by which they begin alike."""
    if not learner.rule.layout.classes_alike:
        return
    before = learner.theta.clone(), learner.q.clone()
    learner.keep_alike()  # in case an optimizer has rounded them apart
    for one, other in zip(before, (learner.theta, learner.q), strict=True):
        if not torch.allclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise PamelaError(
                f"{folder.path} has shared_head in its config.toml, but its checkpoint has a classifier of "
                "each class's own: it was trained without --shared-head; restore its config.toml."
            )


def with_outputs(learner: Learner, config: Config, way: int | None) -> Learner:
    """The learner of a run, with outputs for at least ``way`` classes: see :func:`check_way`."""
    if way is None or config.way is None or way <= config.way:
        return learner
    return learner.widened(network(of_classes(config, way)))


def check_way(config: Config, way: int, asked: str, run: Path) -> None:
    """:class:`UsageError` that names what has ``asked`` for more classes than a run's network can have."""
    if config.way is not None and way > config.way and not config.shared_head:
        raise UsageError(
            f"{asked}, but {run} was trained with {config.way}, and its network has {config.way} outputs; "
            "use fewer, or train with a larger --way, or with --shared-head, for any number of classes."
        )


def fit_curves(
    learner: Learner, problem: Problem, tasks: Tasks, steps: int
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats], Floats]:
    """Sine waves: support x, y (T, K), true x, y (T, points), fits (updates + 1, T, points)."""
    with torch.no_grad():
        trajectory = inner_loop(learner, problem.objective(), tasks, learner.expand(), steps)
        fits = torch.stack([learner.backbone(theta, tasks.query_x) for theta in trajectory])
    support_x, support_y, x, y, curves = (
        t[..., 0].double().cpu().numpy()
        for t in (tasks.support_x, tasks.support_y, tasks.query_x, tasks.query_y, fits)
    )
    return (support_x, support_y), (x, y), curves
