"""The engine against plain PyTorch over whole trainings: the same numbers, and the same accuracy."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from engine_support import PlainConv4, cpu_runner, generator, make_learner, plain_query_loss
from torch import Tensor

from pamela_cli.engine.backbones import Conv4
from pamela_cli.engine.evaluation import concatenate, evaluate
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.intervals import paired_advantage
from pamela_cli.engine.outer_loop import OuterLoop, OuterSettings
from pamela_cli.engine.tasks import Classification, Tasks

WAY, SIZE, WIDTH = 3, 16, 4
META_BATCH = 2


class Drawn:
    """Tasks that depend on the step alone, an ``EpisodeSource``: coarse patterns under fine noise."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.dtype = dtype

    def draw(self, seed: int, step: int, indices: Tensor) -> Tasks:
        g, count = generator(1000 * seed + step), len(indices)
        means = torch.randn(count, WAY, 1, 1, 4, 4, generator=g, dtype=torch.float64)
        patterns = means.repeat_interleave(SIZE // 4, -1).repeat_interleave(SIZE // 4, -2)
        noise = torch.randn(count, WAY, 5, 1, SIZE, SIZE, generator=g, dtype=torch.float64)
        images = (patterns + noise).to(self.dtype)
        labels = torch.arange(WAY).repeat(count, 1)
        support, query = images[:, :, :1].flatten(1, 2), images[:, :, 1:].flatten(1, 2)
        return Tasks(support, labels, query, labels.repeat_interleave(4, 1))


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
def plain_learner(steps: int, w: int, iterations: int, rate: float, seed: int, dtype: torch.dtype) -> Learner:
    """What the engine is compared with in both of its forms; not to be changed."""
    learner = fresh(steps, w, dtype)
    learner.theta, learner.q, learner.p = plain_training(learner, settings(iterations, rate), seed)
    return learner


def fresh(steps: int, w: int, dtype: torch.dtype) -> Learner:
    learner = make_learner("pamela", Conv4(WAY, 1, SIZE, WIDTH), steps, w, lr=0.05)
    return learner.to(torch.device("cpu"), dtype)


def trained(learner: Learner, settings: OuterSettings, seed: int, compiled: bool) -> Learner:
    runner = cpu_runner(compiled=compiled)
    loop = OuterLoop(learner, Classification(WAY), runner, settings, seed)
    for _ in loop.run(Drawn(learner.theta.dtype)):
        pass
    return loop.learner


def settings(iterations: int, rate: float) -> OuterSettings:
    return OuterSettings(iterations, META_BATCH, rate, phi_lr=rate / 10, clip=1.0, schedule="cosine")


def test_ten_outer_steps_are_those_of_plain_pytorch(compiled: bool) -> None:
    expected = plain_learner(5, 2, 10, 1e-3, 1, torch.float64)
    found = trained(fresh(5, 2, torch.float64), settings(10, 1e-3), 1, compiled)
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
    """After trainings whose roundings differ; on the same new tasks, as far as these can tell.

    Which is far enough: what was not trained is many intervals away.
    """
    plain = plain_learner(3, 1, 45, 1e-2, 2, torch.float32)
    ours = trained(fresh(3, 1, torch.float32), settings(45, 1e-2), 2, compiled=form == "compiled")
    tasks = [Drawn(torch.float32).draw(3, step, torch.arange(20)) for step in range(10)]
    trained_by_us, trained_plainly, untrained = (
        concatenate(evaluate(learner, Classification(WAY), tasks, cpu_runner(20), 3)).final
        for learner in (ours, plain, fresh(3, 1, torch.float32))
    )
    advantage, half = paired_advantage(trained_by_us, trained_plainly, higher_is_better=True)
    assert abs(advantage) < 0.01 and half < 0.01
    gain, half = paired_advantage(trained_by_us, untrained, higher_is_better=True)
    assert gain > 5 * half
