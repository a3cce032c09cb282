"""The engine against plain PyTorch over whole trainings: the same numbers, and the same accuracy."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from engine_support import PlainConv4, cpu_runner, image_tasks, make_learner, plain_query_loss
from torch import Tensor

from pamela_cli.engine.backbones import Conv4
from pamela_cli.engine.evaluation import concatenate, evaluate, paired_advantage
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.outer_loop import OuterLoop, OuterSettings
from pamela_cli.engine.tasks import Classification, Tasks

WAY, SIZE, WIDTH = 3, 16, 4
META_BATCH = 2


class Drawn:
    """Tasks that depend on the step alone, an ``EpisodeSource``."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.dtype = dtype

    def draw(self, seed: int, step: int, indices: Tensor) -> Tasks:
        tasks = image_tasks(len(indices), WAY, 1, 4, seed=1000 * seed + step)
        x, query = tasks.support_x.to(self.dtype), tasks.query_x.to(self.dtype)
        return Tasks(x, tasks.support_y, query, tasks.query_y)


def plain_training(learner: Learner, settings: OuterSettings, seed: int) -> list[Tensor]:
    """The outer loop by what PyTorch has: its automatic differentiation, clipping, Adam and schedule."""
    net = PlainConv4(WAY, 1, SIZE, WIDTH)
    theta, q, p = (t.clone().requires_grad_() for t in (learner.theta, learner.q, learner.p))
    groups = [{"params": [theta], "lr": settings.meta_lr}, {"params": [q, p], "lr": settings.phi_lr}]
    adam = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, settings.iterations)
    for step in range(settings.iterations):
        adam.zero_grad()
        tasks = Drawn(learner.theta.dtype).draw(seed, step, torch.arange(META_BATCH))
        plain_query_loss(net, learner, tasks, (theta, q, p), recorded=True).backward()
        torch.nn.utils.clip_grad_norm_([theta, q, p], settings.clip)
        adam.step()
        schedule.step()
    return [t.detach() for t in (theta, q, p)]


@cache
def plain_learner(steps: int, w: int, iterations: int, seed: int, dtype: torch.dtype) -> Learner:
    """What the engine is compared with in both of its forms; not to be changed."""
    learner = fresh(steps, w, dtype)
    learner.theta, learner.q, learner.p = plain_training(learner, settings(iterations), seed)
    return learner


def fresh(steps: int, w: int, dtype: torch.dtype) -> Learner:
    return make_learner("pamela", Conv4(WAY, 1, SIZE, WIDTH), steps, w).to(torch.device("cpu"), dtype)


def trained(learner: Learner, settings: OuterSettings, seed: int, compiled: bool) -> Learner:
    runner = cpu_runner(compiled=compiled)
    loop = OuterLoop(learner, Classification(WAY), runner, settings, seed)
    for _ in loop.run(Drawn(learner.theta.dtype)):
        pass
    return loop.learner


def settings(iterations: int) -> OuterSettings:
    return OuterSettings(iterations, META_BATCH, meta_lr=1e-3, phi_lr=1e-4, clip=1.0, schedule="cosine")


def test_ten_outer_steps_are_those_of_plain_pytorch(compiled: bool) -> None:
    expected = plain_learner(5, 2, 10, 1, torch.float64)
    found = trained(fresh(5, 2, torch.float64), settings(10), 1, compiled)
    biases = found.rule.layout.named(torch.arange(found.rule.layout.size))
    cancelled = torch.cat([v for k, v in biases.items() if k.startswith("block") and k.endswith("bias")])
    # Batch norm cancels these: their gradient is zero, of which Adam makes steps where it is rounded.
    kept = torch.ones_like(found.theta, dtype=torch.bool)
    kept[cancelled] = False
    torch.testing.assert_close(found.theta[kept], expected.theta[kept], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.q, expected.q, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.p, expected.p, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", ["compiled", "PyTorch"])
def test_float32_gives_the_accuracy_of_plain_pytorch(form: str) -> None:
    """After trainings whose roundings differ; on the same new tasks, as far as these can tell."""
    plain = plain_learner(3, 1, 25, 2, torch.float32)
    ours = trained(fresh(3, 1, torch.float32), settings(25), 2, compiled=form == "compiled")
    tasks = [Drawn(torch.float32).draw(3, step, torch.arange(20)) for step in range(10)]
    accuracies = [
        concatenate(evaluate(learner, Classification(WAY), tasks, cpu_runner(20), 3)).final
        for learner in (ours, plain)
    ]
    advantage, half = paired_advantage(*accuracies, higher_is_better=True)
    assert abs(advantage) <= half
