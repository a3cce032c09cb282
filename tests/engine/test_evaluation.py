"""Scores on many tasks, against the plain implementation, and their intervals against paper work."""

from math import isnan, sqrt

import numpy as np
import pytest
import torch
from engine_support import (
    PlainConv4,
    Points,
    cpu_runner,
    image_tasks,
    make_learner,
    parabola,
    plain_adapt,
    plain_loss,
    plain_vectors,
)
from torch.nn import functional as F

from pamela_cli.engine.backbones import Conv4
from pamela_cli.engine.evaluation import TaskScores, concatenate, evaluate
from pamela_cli.engine.intervals import mean_ci95, paired_advantage, proportion_interval
from pamela_cli.engine.tasks import Classification, Regression, Tasks


def conv_problem(tasks: int = 4, method: str = "pamela", w: int | None = 2):
    learner = make_learner(method, Conv4(3, 1, 16, 4), 3, w)
    return PlainConv4(3, 1, 16, 4), learner, image_tasks(tasks, 3, 2, 4)


def scores(learner, objective, batches, steps, at_a_time=2, workers=1, **options) -> TaskScores:
    return concatenate(
        evaluate(learner, objective, batches, cpu_runner(at_a_time, workers), steps, **options)
    )


# --- scores -------------------------------------------------------------------------------------------


def test_loss_and_accuracy_after_every_update_equal_the_plain_ones():
    net, learner, tasks = conv_problem()
    found = scores(learner, Classification(3), [tasks], 3)
    assert found.loss.shape == found.score.shape == (4, 4)
    qs, ps = plain_vectors(net, learner, learner.q, learner.p)
    for t in range(4):
        thetas = plain_adapt(net, learner.theta, qs, ps, 2, tasks.support_x[t], tasks.support_y[t])
        for j, theta in enumerate(thetas):
            logits, y = net(theta, tasks.query_x[t]), tasks.query_y[t]
            assert found.loss[t, j] == pytest.approx(plain_loss(logits, y).item(), rel=1e-9)
            assert found.score[t, j] == pytest.approx((logits.argmax(1) == y).double().mean().item())
    assert found.final.tolist() == found.score[:, 3].tolist()
    assert len(np.unique(found.loss)) == 16  # every update and task gave a number of its own


@pytest.mark.parametrize("norm_stats", ["query", "support"])
@pytest.mark.parametrize("steps", [0, 2, 3, 6])
def test_the_last_update_alone_equals_the_last_column(norm_stats, steps):
    _, learner, tasks = conv_problem()
    every = scores(learner, Classification(3), [tasks], steps, norm_stats=norm_stats)
    last = scores(learner, Classification(3), [tasks], steps, norm_stats=norm_stats, every_step=False)
    assert every.loss.shape == (4, steps + 1)
    assert last.loss.shape == (4, 1)
    assert np.array_equal(every.loss[:, -1:], last.loss)
    assert np.array_equal(every.score[:, -1:], last.score)
    assert np.array_equal(every.final, last.final)


def test_more_updates_than_trained_begin_with_the_trained_ones():
    _, learner, tasks = conv_problem()
    trained, more = (scores(learner, Classification(3), [tasks], steps) for steps in (3, 5))
    np.testing.assert_allclose(more.loss[:, :4], trained.loss, rtol=1e-12)


def test_support_statistics_normalise_queries_without_one_another():
    _, learner, tasks = conv_problem()
    together = scores(learner, Classification(3), [tasks], 3, norm_stats="support")
    # Each query alone under the support's statistics: the mean of its losses is the task's.
    alone = []
    for i in range(12):
        one = Tasks(
            tasks.support_x, tasks.support_y, tasks.query_x[:, i : i + 1], tasks.query_y[:, i : i + 1]
        )
        alone.append(scores(learner, Classification(3), [one], 3, norm_stats="support"))
    np.testing.assert_allclose(np.mean([a.loss for a in alone], 0), together.loss, rtol=1e-9)
    np.testing.assert_allclose(np.mean([a.score for a in alone], 0), together.score, rtol=1e-9)
    among = scores(learner, Classification(3), [tasks], 3)
    assert np.abs(among.loss - together.loss).min() > 1e-6


def loss_under_support_statistics(net: PlainConv4, theta: torch.Tensor, tasks: Tasks, i: int) -> float:
    """Query loss of task i, with the support images' statistics at every batch norm, by hand."""
    t, x, s = net.cut(theta), tasks.query_x[i], tasks.support_x[i]
    for k in range(0, 16, 4):
        x, s = (F.conv2d(z, t[k], t[k + 1], padding=1) for z in (x, s))
        mean, var = s.mean((0, 2, 3)), s.var((0, 2, 3), unbiased=False)
        x, s = (F.batch_norm(z, mean, var, t[k + 2], t[k + 3], training=False, eps=1e-5) for z in (x, s))
        x, s = (F.max_pool2d(F.relu(z), 2) for z in (x, s))
    return F.cross_entropy(F.linear(x.flatten(1), t[16], t[17]), tasks.query_y[i]).item()


def test_support_statistics_are_those_of_the_adapted_network_after_every_update():
    net, learner, tasks = conv_problem()
    found = scores(learner, Classification(3), [tasks], 3, norm_stats="support")
    qs, ps = plain_vectors(net, learner, learner.q, learner.p)
    for i in range(4):
        thetas = plain_adapt(net, learner.theta, qs, ps, 2, tasks.support_x[i], tasks.support_y[i])
        expected = [loss_under_support_statistics(net, theta, tasks, i) for theta in thetas]
        assert found.loss[i].tolist() == pytest.approx(expected, rel=1e-9)


def test_batches_and_tasks_at_a_time_do_not_matter():
    _, learner, tasks = conv_problem(5)
    whole = scores(learner, Classification(3), [tasks], 3, at_a_time=5)
    for batches in ([tasks], list(tasks.chunks(2)), list(tasks.chunks(1))):
        for at_a_time, workers in ((1, 1), (2, 2), (3, 1)):
            other = scores(learner, Classification(3), batches, 3, at_a_time, workers)
            np.testing.assert_allclose(other.loss, whole.loss, rtol=1e-9)
            assert np.array_equal(other.score, whole.score)


def test_evaluation_leaves_the_learner_as_it_was():
    _, learner, tasks = conv_problem()
    before = [t.clone() for t in (learner.theta, learner.q, learner.p)]
    scores(learner, Classification(3), [tasks], 3)
    for tensor, old in zip((learner.theta, learner.q, learner.p), before, strict=True):
        assert torch.equal(tensor, old)
        assert not tensor.requires_grad


def test_fewer_ways_ignore_the_other_outputs():
    logits = torch.tensor([[[1.0, 2.0, 9.0], [3.0, 1.0, 9.0]], [[0.0, 0.0, -9.0], [1.0, 4.0, 9.0]]])
    targets = torch.tensor([[1, 1], [0, 1]])
    objective = Classification(2)
    assert objective.score(logits, targets).tolist() == [0.5, 1.0]
    # −log σ(2 − 1) and −log σ(1 − 3); −log 1/2 and −log σ(4 − 1): the third output takes no part.
    one = [np.log1p(np.exp(-1)), np.log1p(np.exp(2))]
    two = [np.log(2), np.log1p(np.exp(-3))]
    assert objective.loss(logits, targets).tolist() == pytest.approx([np.mean(one), np.mean(two)], rel=1e-6)


def test_a_network_of_more_outputs_adapts_to_fewer_ways_as_a_smaller_one_would():
    # The unused outputs get no gradient, so the rest moves as if they were not there.
    big, small = Conv4(5, 1, 16, 4), Conv4(3, 1, 16, 4)
    learner, part = make_learner("maml", big, 3), make_learner("maml", small, 3)
    named = big.layout.named(learner.theta)
    cut = {name: (t[:3] if name.startswith("classifier") else t) for name, t in named.items()}
    part.theta = small.layout.pack(cut)
    tasks = image_tasks(3, 3, 2, 4)
    a, b = (scores(x, Classification(3), [tasks], 3) for x in (learner, part))
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-9)
    assert np.array_equal(a.score, b.score)


def test_squared_error_is_loss_and_score():
    # θ goes 1 → 3/2 → 7/4 towards 2 (learning rate 1/4); the query target is 0.
    learner = make_learner("maml", Points(), 2, lr=1 / 4)
    learner.theta = torch.ones(1, dtype=torch.float64)
    found = scores(learner, Regression(), [parabola(2.0, 0.0, count=2)], 2)
    assert found.loss.tolist() == [[1, 9 / 4, 49 / 16]] * 2
    assert found.score.tolist() == found.loss.tolist()


# --- intervals ----------------------------------------------------------------------------------------


def test_the_interval_is_that_of_paper_work():
    # 2, 4, 4, 4, 5, 5, 7, 9: mean 5, squares 9+1+1+1+0+0+4+16 = 32, s² = 32/7.
    mean, ci95 = mean_ci95(np.array([2.0, 4, 4, 4, 5, 5, 7, 9]))
    assert mean == 5
    assert ci95 == pytest.approx(1.96 * sqrt(32 / 7) / sqrt(8), rel=1e-12)


def test_equal_values_have_no_spread_and_a_single_one_no_interval():
    assert mean_ci95(np.full(5, 0.25)) == (0.25, 0)
    mean, ci95 = mean_ci95(np.array([0.25]))
    assert mean == 0.25
    assert isnan(ci95)


def test_a_paired_advantage_is_positive_for_the_better():
    a, b = np.array([0.5, 0.75, 1.0]), np.array([0.25, 0.75, 0.5])
    # Differences 1/4, 0, 1/2: mean 1/4, s = 1/4.
    gain, ci95 = paired_advantage(a, b, higher_is_better=True)
    assert gain == 0.25
    assert ci95 == pytest.approx(1.96 * 0.25 / sqrt(3))
    assert paired_advantage(b, a, higher_is_better=True) == (-gain, pytest.approx(ci95))
    # As errors, ``b`` is the better.
    assert paired_advantage(a, b, higher_is_better=False) == (-gain, pytest.approx(ci95))
    assert paired_advantage(b, a, higher_is_better=False) == (gain, pytest.approx(ci95))


def test_pairing_removes_what_the_tasks_share():
    hard = np.linspace(0, 1, 50)
    gain, ci95 = paired_advantage(hard + 0.01, hard, higher_is_better=True)
    assert gain == pytest.approx(0.01)
    assert ci95 < 1e-12


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_share_is_wilsons(hits, count, low, high):
    """The examples of Newcombe (1998), table I."""
    assert proportion_interval(hits, count) == pytest.approx((low, high), abs=5e-5)
    assert proportion_interval(count - hits, count) == pytest.approx((1 - high, 1 - low), abs=5e-5)
