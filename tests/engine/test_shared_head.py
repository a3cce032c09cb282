"""A classifier that begins alike for all classes: that it stays so, and what follows from it."""

from __future__ import annotations

import pytest
import torch
from engine_support import cpu_runner, generator, image_tasks, make_learner
from torch import Tensor

from pamela_cli.engine import outer_loop
from pamela_cli.engine.backbones import Conv4
from pamela_cli.engine.evaluation import concatenate, evaluate
from pamela_cli.engine.inner_loop import Learner, inner_loop
from pamela_cli.engine.layout import Layer
from pamela_cli.engine.meta_gradient import MetaGradient, mean_meta_gradient
from pamela_cli.engine.outer_loop import OuterLoop, OuterSettings
from pamela_cli.engine.tasks import Classification, Tasks
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.methods import METHODS

WAY = 4
METHODS_AND_SKIPS = [
    ("maml", None),
    ("fomaml", None),
    ("meta-sgd", None),
    ("q-shared", None),
    ("q", None),
    ("pamela", 1),
]


def network(shared_head: bool = True) -> Conv4:
    return Conv4(WAY, 1, 16, 4, shared_head)


def alike(learner: Learner) -> Learner:
    """The learner, with its classifier alike for all classes, as :meth:`Learner.initial` makes it."""
    learner.theta, learner.q = learner.rule.tied(learner.theta, learner.q)
    return learner


def classifier(learner: Learner, values: Tensor) -> tuple[Tensor, Tensor]:
    """The part of vectors over θ (…, N) that is the classifier's: (…, way, features), (…, way)."""
    own = values[..., -learner.rule.layout.layers[-1].size :]
    return own[..., :-WAY].unflatten(-1, (WAY, -1)), own[..., -WAY:]


def assert_alike(learner: Learner) -> None:
    for values in [learner.theta, *([learner.expand()[0]] if learner.q.numel() else [])]:
        for part in (each.unflatten(-1, (WAY, -1)).transpose(0, -2) for each in flat(learner, values)):
            assert torch.equal(part, part[:1].expand_as(part))


def flat(learner: Learner, values: Tensor) -> list[Tensor]:
    weight, bias = classifier(learner, values)
    return [weight.flatten(-2), bias]


class Fixed:
    """The same tasks at every step."""

    def draw(self, seed: int, step: int, indices: range) -> Tasks:
        return image_tasks(len(indices), WAY, 1, 3, seed=step)


@pytest.mark.parametrize(("method", "w"), METHODS_AND_SKIPS)
def test_it_stays_alike_to_the_bit(method: str, w: int | None) -> None:
    rule = UpdateRule(METHODS[method], network().layout, 3, w)
    learner = Learner.initial(network(), rule, 0.05, seed=1, dtype=torch.float64)
    assert_alike(learner)
    begin = learner.theta.clone()
    settings = OuterSettings(6, 2, meta_lr=1e-2, phi_lr=1e-2, clip=1.0, schedule="cosine", weight_decay=0.1)
    list(OuterLoop(learner, Classification(WAY), cpu_runner(), settings, 0).run(Fixed()))
    assert_alike(learner)
    weight, bias = classifier(learner, learner.theta - begin)
    assert weight.abs().min() > 0 and bias.abs().min() > 0, "it is learned"


@pytest.mark.parametrize(("method", "w"), [each for each in METHODS_AND_SKIPS if each[0] != "fomaml"])
def test_the_gradient_is_that_along_learners_that_begin_alike(method: str, w: int | None) -> None:
    """Against central differences in float64, which the first-order meta-gradient is not."""
    learner = alike(make_learner(method, network(), 2, w))
    tasks, objective = image_tasks(2, WAY, 2, 3), Classification(WAY)
    found = mean_meta_gradient(learner, objective, tasks, cpu_runner(compiled=False))
    g = generator(3)
    along = [torch.randn(t.shape, generator=g, dtype=torch.float64) for t in (learner.theta, learner.q)]
    along = list(learner.rule.tied(*along))
    values = []
    for sign in (1, -1):
        theta, q = (t + sign * 1e-6 * d for t, d in zip((learner.theta, learner.q), along, strict=True))
        moved = Learner(learner.backbone, learner.rule, learner.inner_lr, theta, q, learner.p)
        assert_alike(moved)
        values.append(mean_meta_gradient(moved, objective, tasks, cpu_runner(compiled=False)).loss.mean())
    expected = (values[0] - values[1]) / 2e-6
    slope = (found.theta * along[0]).sum() + (found.q * along[1]).sum()
    assert abs(slope - expected) <= 1e-6 * abs(expected)


@pytest.mark.parametrize(("method", "w"), METHODS_AND_SKIPS)
def test_the_gradient_is_the_mean_over_the_classes(method: str, w: int | None) -> None:
    tasks, objective = image_tasks(2, WAY, 1, 3), Classification(WAY)
    shared = alike(make_learner(method, network(), 3, w))
    free = make_learner(method, network(shared_head=False), 3, w)
    free.theta, free.q = shared.theta, shared.q
    found, other = (mean_meta_gradient(learner, objective, tasks, cpu_runner()) for learner in (shared, free))
    size = shared.rule.layout.layers[-1].size
    assert torch.equal(found.theta[:-size], other.theta[:-size])
    assert torch.equal(found.p, other.p)
    for one, whole in zip(classifier(shared, found.theta), classifier(shared, other.theta), strict=True):
        torch.testing.assert_close(one, whole.mean(0, keepdim=True).expand_as(one), rtol=1e-12, atol=1e-15)
    if shared.q.numel():
        assert torch.equal(found.q[:, :-size], other.q[:, :-size])


@pytest.mark.parametrize("shared_head", [True, False])
def test_then_the_order_of_the_classes_does_not_matter(shared_head: bool) -> None:
    """The same tasks with their classes called otherwise have the same scores, where it is shared."""
    learner = alike(make_learner("pamela", network(shared_head), 3, 1))
    tasks, order = image_tasks(3, WAY, 2, 5), torch.tensor([2, 0, 3, 1])
    renamed = Tasks(tasks.support_x, order[tasks.support_y], tasks.query_x, order[tasks.query_y])
    one, other = (
        concatenate(evaluate(learner, Classification(WAY), [given], cpu_runner(), 3))
        for given in (tasks, renamed)
    )
    same = torch.allclose(torch.tensor(one.loss), torch.tensor(other.loss), rtol=1e-9)
    assert same == shared_head


def test_the_first_update_moves_the_classifier_alone() -> None:
    """What each output passes down is cancelled by the others': the errors of an image sum to zero."""
    tasks = image_tasks(2, WAY, 2, 5)
    for shared_head in (True, False):
        learner = make_learner("maml", network(shared_head), 2, None)
        learner = alike(learner) if shared_head else learner
        objective = Classification(WAY)
        theta_0, theta_1, theta_2 = inner_loop(learner, objective, tasks, learner.expand(), 2)
        below = learner.rule.layout.size - learner.rule.layout.layers[-1].size
        first, second = (moved[:, :below].abs().max() for moved in (theta_1 - theta_0, theta_2 - theta_1))
        assert (first < 1e-12) == shared_head and second > 1e-6


def test_so_its_q_has_no_meta_gradient_below_the_classifier() -> None:
    learner = alike(make_learner("q", network(), 2, None))
    found = mean_meta_gradient(learner, Classification(WAY), image_tasks(2, WAY, 2, 5), cpu_runner())
    below = found.q.shape[1] - learner.rule.layout.layers[-1].q_size(learner.rule.method.granularity)
    first, second = found.q[:, :below].abs().amax(1)
    assert first < 1e-12 and second > 1e-6


def test_without_it_nothing_is_averaged() -> None:
    learner = make_learner("pamela", network(shared_head=False), 3, 1)
    theta, q = learner.rule.tied(learner.theta, learner.q)
    assert theta is learner.theta and q is learner.q


@pytest.mark.parametrize(("method", "w"), METHODS_AND_SKIPS)
def test_a_learner_for_more_classes_is_the_same_one_for_fewer(method: str, w: int | None) -> None:
    """Outputs that take no part have no influence."""
    learner = alike(make_learner(method, network(), 3, w))
    wider = learner.widened(Conv4(7, 1, 16, 4, shared_head=True))
    assert wider.theta.numel() == wider.rule.layout.size and wider.q.shape == wider.rule.q_shape
    tasks, runner = image_tasks(3, WAY, 2, 5), cpu_runner()
    one, other = (
        concatenate(evaluate(each, Classification(WAY), [tasks], runner, 3)) for each in (learner, wider)
    )
    torch.testing.assert_close(torch.tensor(one.loss), torch.tensor(other.loss), rtol=1e-9, atol=0)
    more, order = image_tasks(3, 7, 2, 5), torch.tensor([2, 6, 0, 3, 1, 5, 4])
    renamed = Tasks(more.support_x, order[more.support_y], more.query_x, order[more.query_y])
    one, other = (
        concatenate(evaluate(wider, Classification(7), [given], runner, 3)) for given in (more, renamed)
    )
    torch.testing.assert_close(torch.tensor(one.loss), torch.tensor(other.loss), rtol=1e-9, atol=0)
    assert (wider.p == learner.p).all() and wider.p is not learner.p


def test_learners_that_are_not_alike_are_not_widened() -> None:
    learner = make_learner("pamela", network(), 3, 1)
    free = make_learner("pamela", network(shared_head=False), 3, 1)
    for one, backbone, says in (
        (free, network(), "begin alike"),
        (learner, network(shared_head=False), "begin alike"),
        (learner, Conv4(7, 3, 16, 4, shared_head=True), "differ in more"),
        (learner, Conv4(7, 1, 16, 5, shared_head=True), "differ in more"),
    ):
        with pytest.raises(ValueError, match=says):
            one.widened(backbone)
    with pytest.raises(ValueError, match="a Q for each parameter"):
        Layer("head", {"weight": (3, 4), "bias": (3,)}, "kernel", alike=True)


@pytest.mark.parametrize("method", ["maml", "pamela", "meta-sgd"])
def test_hundreds_of_adams_steps_leave_it_alike_to_the_bit(method: str, monkeypatch) -> None:
    """Adam rounds the end of a tensor otherwise than the rest: by itself it parts the classes in 43 steps."""
    backbone = Conv4(20, 1, 16, 7, shared_head=True)
    rule = UpdateRule(METHODS[method], backbone.layout, 2, 1 if method == "pamela" else None)
    learner, g = Learner.initial(backbone, rule, 0.05, seed=1), generator(0)

    def drawn(learner: Learner, *others: object) -> MetaGradient:
        own = (torch.randn(t.shape, generator=g) for t in (learner.theta, learner.q))
        theta, q = learner.rule.tied(*own)
        return MetaGradient(theta, q, torch.zeros_like(learner.p), torch.zeros(1), torch.zeros(1))

    monkeypatch.setattr(outer_loop, "mean_meta_gradient", drawn)
    monkeypatch.setattr(outer_loop, "drawn", lambda *arguments: None)
    settings = OuterSettings(300, 1, meta_lr=1e-3, phi_lr=1e-3, clip=0.0, schedule="constant")
    list(OuterLoop(learner, Classification(20), cpu_runner(), settings, 0).run(Fixed()))
    theta, q = learner.rule.widened(learner.theta, learner.q, 20)
    assert torch.equal(theta, learner.theta) and torch.equal(q, learner.q)
