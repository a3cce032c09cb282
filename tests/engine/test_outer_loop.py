"""Outer steps against Adam written out, and what keeps them from blowing up."""

from dataclasses import replace
from itertools import pairwise
from math import cos, pi

import pytest
import torch
from engine_support import Points, cpu_runner, make_learner, parabola
from outer_support import (
    SETTINGS,
    Listed,
    assert_same_bits,
    gradients_now,
    outer,
    sines,
    small_learner,
    snapshot,
    take,
)
from torch import Tensor
from torch.nn import functional as F

from pamela_cli import OwnLoss
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.outer_loop import OuterLoop
from pamela_cli.engine.tasks import Regression, Tasks

# --- Adam -------------------------------------------------------------------------------------------


def test_three_steps_are_those_of_adam_written_out():
    learner = small_learner()
    loop = outer(learner)
    rates = {"theta": 1e-2, "q": 1e-3, "p": 1e-3}
    m = dict.fromkeys(rates, 0.0)
    v = dict.fromkeys(rates, 0.0)
    run = loop.run(sines())
    for t in (1, 2, 3):
        gradients = gradients_now(learner, sines().draw(0, t - 1, torch.arange(4)))
        expected = {}
        for name, g in gradients.items():
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g**2
            m_hat, v_hat = m[name] / (1 - 0.9**t), v[name] / (1 - 0.999**t)
            expected[name] = getattr(learner, name) - rates[name] * m_hat / (v_hat.sqrt() + 1e-8)
        next(run)
        for name in rates:
            torch.testing.assert_close(getattr(learner, name), expected[name], rtol=1e-10, atol=1e-12)


def test_the_first_step_moves_each_number_by_its_learning_rate():
    # Adam's first step is the rate times the gradient's sign.
    learner = small_learner()
    loop = outer(learner, replace(SETTINGS, meta_lr=3e-3, phi_lr=7e-4))
    before = snapshot(loop)
    gradients = gradients_now(learner, sines().draw(0, 0, torch.arange(4)))
    take(loop, sines(), 1)
    for name, rate in (("theta", 3e-3), ("q", 7e-4), ("p", 7e-4)):
        clear = gradients[name].abs() > 1e-4  # else Adam's ε of 1e-8 tells
        assert clear.any()
        moved = (getattr(learner, name) - before[name])[clear]
        torch.testing.assert_close(moved, -rate * gradients[name][clear].sign(), rtol=2e-4, atol=0)


def test_weight_decay_takes_its_share_of_theta_alone():
    """Beside Adam's step, which does not know of it (Loshchilov and Hutter, 2019)."""
    plain, decayed = (outer(small_learner(), replace(SETTINGS, weight_decay=decay)) for decay in (0.0, 0.3))
    before = snapshot(plain)["theta"]
    for loop in (plain, decayed):
        take(loop, sines(), 1)
    lost = plain.learner.theta - decayed.learner.theta
    torch.testing.assert_close(lost, 1e-2 * 0.3 * before, rtol=1e-9, atol=1e-12)
    for name in ("q", "p"):
        assert torch.equal(getattr(plain.learner, name), getattr(decayed.learner, name))


@pytest.mark.parametrize(("method", "names"), [("maml", {"theta"}), ("q", {"theta", "q"})])
def test_only_what_a_method_has_is_learned(method, names):
    loop = outer(small_learner(method, None))
    assert loop.parameters().keys() == names
    take(loop, sines(), 1)
    assert {name.split(".")[1] for name in loop.state()} == names


def test_each_step_draws_the_tasks_of_its_address_once():
    source = Listed(parabola(1.0, 2.0, count=3))
    loop = outer(make_learner("q", Points(), 2), replace(SETTINGS, iterations=4, meta_batch=3), seed=9)
    assert len(list(loop.run(source))) == 4
    assert source.asked == [(9, step, [0, 1, 2]) for step in range(4)]
    assert loop.step == 4
    assert list(loop.run(source)) == []  # done: no further step is taken
    assert len(source.asked) == 4


# --- the schedule -----------------------------------------------------------------------------------


def test_cosine_rate_falls_from_1_to_0_by_its_formula():
    settings = replace(SETTINGS, iterations=1000, schedule="cosine")
    assert settings.rate(0) == 1
    assert settings.rate(500) == pytest.approx(0.5)
    assert settings.rate(1000) == pytest.approx(0, abs=1e-15)
    for step in (1, 250, 333, 999):
        assert settings.rate(step) == pytest.approx((1 + cos(pi * step / 1000)) / 2, rel=1e-12)
    rates = [settings.rate(step) for step in range(1001)]
    assert rates == sorted(rates, reverse=True)


def test_constant_rate_is_1():
    assert {SETTINGS.rate(step) for step in range(20)} == {1.0}


def test_the_schedule_scales_each_step_of_every_group():
    # Constant gradients make each of Adam's steps the rate itself; the parabola's are near enough
    # to constant from afar. θ: loss (θ − 10⁶)² with a learning rate of 10⁻².
    learner = make_learner("maml", Points(), 1, lr=1e-3)
    learner.theta = torch.ones(1, dtype=torch.float64)
    loop = outer(learner, replace(SETTINGS, iterations=8, schedule="cosine"))
    places = [learner.theta.item()]
    places += [learner.theta.item() for _ in loop.run(Listed(parabola(1e6, 1e6)))]
    moves = [b - a for a, b in pairwise(places)]
    expected = [1e-2 * (1 + cos(pi * step / 8)) / 2 for step in range(8)]
    assert moves == pytest.approx(expected, rel=1e-4)


# --- clipping ---------------------------------------------------------------------------------------


def joint_norm(gradients: dict[str, Tensor]) -> float:
    return sum((g**2).sum().item() for g in gradients.values()) ** 0.5


@pytest.mark.parametrize("share", [0.1, 0.9, 1.1, 10.0])
def test_the_joint_norm_of_the_meta_gradient_is_clipped(share):
    learner = small_learner()
    gradients = gradients_now(learner, sines().draw(0, 0, torch.arange(4)))
    norm = joint_norm(gradients)
    loop = outer(learner, replace(SETTINGS, clip=share * norm))
    (metrics,) = take(loop, sines(), 1)
    assert metrics.gradient_norm.item() == pytest.approx(norm, rel=1e-12)  # told before clipping
    # Adam's first moment after one step is a tenth of the gradient that it was given.
    for name, g in gradients.items():
        expected = 0.1 * g * min(share, 1.0)
        torch.testing.assert_close(loop.state()[f"adam.{name}.exp_avg"], expected, rtol=1e-9, atol=1e-14)


def test_a_clip_of_zero_clips_nothing():
    learner = small_learner()
    gradients = gradients_now(learner, sines().draw(0, 0, torch.arange(4)))
    loop = outer(learner, replace(SETTINGS, clip=0.0))
    take(loop, sines(), 1)
    torch.testing.assert_close(
        loop.state()["adam.theta.exp_avg"], 0.1 * gradients["theta"], rtol=1e-9, atol=1e-14
    )


def test_a_gradient_of_zero_is_no_trouble_for_the_clip():
    learner = make_learner("maml", Points(), 1)
    learner.theta = torch.full((1,), 2.0, dtype=torch.float64)
    loop = outer(learner, replace(SETTINGS, clip=1.0))
    (metrics,) = take(loop, Listed(parabola(2.0, 2.0)), 1)
    assert (metrics.gradient_norm.item(), metrics.skipped.item()) == (0, 0)
    assert learner.theta.item() == 2


# --- steps that are not finite ----------------------------------------------------------------------


def exploding(value: float) -> Tasks:
    tasks = sines().draw(0, 0, torch.arange(4))
    tasks.query_y[2, 3] = value
    return tasks


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308])
@pytest.mark.parametrize("clip", [0.0, 10.0])
@pytest.mark.parametrize("first", [True, False])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(value, clip, first):
    good = sines().draw(0, 0, torch.arange(4))
    loop = outer(small_learner(), replace(SETTINGS, clip=clip))
    source = Listed(*([] if first else [good]), exploding(value), good)
    if not first:
        take(loop, source, 1)
        before = snapshot(loop)
    else:
        before = {name: t.clone() for name, t in loop.parameters().items()}
    (metrics,) = take(loop, source, 1)
    assert metrics.skipped.item() == 1
    assert not metrics.gradient_norm.isfinite()
    after = snapshot(loop)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    assert loop.step == (1 if first else 2)  # the step is spent, and its tasks are not drawn again
    # Adam goes on as if the step had not been.
    (metrics,) = take(loop, source, 1)
    assert metrics.skipped.item() == 0
    undisturbed = outer(small_learner(), replace(SETTINGS, clip=clip))
    take(undisturbed, Listed(good), 1 if first else 2)
    assert_same_bits(snapshot(loop), snapshot(undisturbed))


def test_metrics_are_the_means_of_the_meta_batch():
    tasks = sines().draw(0, 0, torch.arange(4))
    learner = small_learner()
    found = mean_meta_gradient(learner, Regression(), tasks, cpu_runner(2))
    (metrics,) = take(outer(learner), sines(), 1)
    loss, score, norm, skipped = metrics.stacked().tolist()
    assert loss == pytest.approx(sum(found.loss.tolist()) / 4, rel=1e-12)
    assert score == pytest.approx(loss)
    assert (norm, skipped) == (metrics.gradient_norm.item(), 0)


def test_the_score_of_a_step_is_not_its_loss():
    far = OwnLoss(F.mse_loss, measure=lambda outputs, targets: (outputs - targets).abs().max())
    tasks, learner = sines().draw(0, 0, torch.arange(4)), small_learner()
    found = mean_meta_gradient(learner, far, tasks, cpu_runner(2))
    (metrics,) = take(OuterLoop(learner, far, cpu_runner(2), SETTINGS, 0), sines(), 1)
    assert metrics.score.item() == pytest.approx(found.score.mean().item(), rel=1e-12)
    assert metrics.score.item() != pytest.approx(metrics.loss.item(), rel=1e-3)
