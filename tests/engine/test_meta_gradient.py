"""The meta-gradient against finite differences of a plain implementation, and against other libraries."""

import importlib
import warnings
from functools import cache
from types import ModuleType

import pytest
import torch
from engine_support import (
    PlainConv4,
    PlainMLP,
    Points,
    cpu_runner,
    generator,
    image_tasks,
    make_learner,
    parabola,
    plain_adapt,
    plain_loss,
    plain_query_loss,
    plain_vectors,
    torch_conv4,
)
from torch import Tensor
from torch.nn import functional as F

from pamela_cli.engine.backbones import MLP, Conv4
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.tasks import Classification, Regression, Tasks

EXACT = [
    ("maml", 5, None),
    ("meta-sgd", 1, None),
    ("meta-sgd", 5, None),
    ("q-shared", 5, None),
    ("q", 5, None),
    ("pamela", 5, 1),
    ("pamela", 5, 2),
    ("pamela", 5, 3),
]
WAY, WIDTH = 3, 3


def conv_problem(method: str, steps: int, w: int | None) -> tuple[PlainConv4, Learner, Tasks]:
    learner = make_learner(method, Conv4(WAY, 1, 16, WIDTH), steps, w)
    return PlainConv4(WAY, 1, 16, WIDTH), learner, image_tasks(1, WAY, 2, 3)


def meta_parameters(learner: Learner) -> list[Tensor]:
    return [learner.theta, learner.q, learner.p]


def directional_derivative(net, learner: Learner, tasks: Tasks, direction: list[Tensor]) -> float:
    """Central differences at eps and 2·eps, extrapolated: the error is of order eps⁴.

    All five points must open the same ReLUs and pool the same pixels, so that no kink lies between them:
    eps is the largest of a few for which they do.
    """

    def loss_and_pattern(step: float) -> tuple[float, list[Tensor]]:
        net.pattern = []
        moved = [m + step * d for m, d in zip(meta_parameters(learner), direction, strict=True)]
        return plain_query_loss(net, learner, tasks, tuple(moved)).item(), net.pattern

    _, here = loss_and_pattern(0.0)
    for eps in (4e-6, 2e-6, 1e-6):
        losses = {}
        for k in (-2, 2, -1, 1):
            losses[k], pattern = loss_and_pattern(k * eps)
            if not all(torch.equal(a, b) for a, b in zip(pattern, here, strict=True)):
                break
        else:
            return (8 * (losses[1] - losses[-1]) - (losses[2] - losses[-2])) / (12 * eps)
    raise AssertionError("a kink of ReLU or pooling lies too near: take other data")


def random_directions(learner: Learner) -> list[list[Tensor]]:
    """20 that move θ, Q and P together, and 5 that move each alone (where there is such a one)."""
    parts = meta_parameters(learner)
    g = generator(5)
    masks = [(1, 1, 1)] * 20
    masks += [
        mask for mask, part in zip(((1, 0, 0), (0, 1, 0), (0, 0, 1)), parts, strict=True) if part.numel()
    ] * 5
    return [
        [
            on * torch.randn(part.shape, generator=g, dtype=torch.float64) / max(part.numel(), 1) ** 0.5
            for on, part in zip(mask, parts, strict=True)
        ]
        for mask in masks
    ]


def differences(net, learner: Learner, tasks: Tasks) -> list[float]:
    """The derivatives along all directions."""
    return [directional_derivative(net, learner, tasks, each) for each in random_directions(learner)]


@cache
def conv_differences(method: str, steps: int, w: int | None) -> list[float]:
    """Those of a convolution network, which the engine is compared with in both of its forms."""
    return differences(*conv_problem(method, steps, w))


def assert_agrees(
    expected: list[float], learner: Learner, objective, tasks: Tasks, compiled: bool = True
) -> None:
    gradient = mean_meta_gradient(learner, objective, tasks, cpu_runner(compiled=compiled))
    for direction, derivative in zip(random_directions(learner), expected, strict=True):
        parts = zip((gradient.theta, gradient.q, gradient.p), direction, strict=True)
        found = sum((part * d).sum().item() for part, d in parts)
        assert found == pytest.approx(derivative, rel=1e-6)


@pytest.mark.parametrize(("method", "steps", "w"), EXACT)
def test_meta_gradient_of_a_convolution_network_equals_finite_differences(method, steps, w, compiled):
    _, learner, tasks = conv_problem(method, steps, w)
    assert_agrees(conv_differences(method, steps, w), learner, Classification(WAY), tasks, compiled)


@pytest.mark.parametrize(("method", "steps", "w"), [("meta-sgd", 1, None), ("q", 5, None), ("pamela", 5, 2)])
def test_meta_gradient_of_the_sine_network_equals_finite_differences(method, steps, w):
    net, learner = PlainMLP(10), make_learner(method, MLP((1, 10, 10, 1)), steps, w)
    x = 10 * torch.rand(2, 10, 1, generator=generator(3), dtype=torch.float64) - 5
    tasks = Tasks(x[:, :4], x[:, :4].sin(), x[:, 4:], x[:, 4:].sin())  # two tasks: the mean of both
    assert_agrees(differences(net, learner, tasks), learner, Regression(), tasks)


def test_first_order_meta_gradient_is_the_query_gradient_at_the_last_parameters():
    net, learner, tasks = conv_problem("fomaml", 5, None)
    x, y = tasks.support_x[0], tasks.support_y[0]
    qs, ps = plain_vectors(net, learner, learner.q, learner.p)
    last = plain_adapt(net, learner.theta, qs, ps, None, x, y)[-1].requires_grad_()
    (expected,) = torch.autograd.grad(plain_loss(net(last, tasks.query_x[0]), tasks.query_y[0]), last)
    found = mean_meta_gradient(learner, Classification(WAY), tasks, cpu_runner())
    torch.testing.assert_close(found.theta, expected, rtol=1e-10, atol=1e-12)
    assert found.q.numel() == found.p.numel() == 0


def test_first_and_second_order_differ():
    # Otherwise the comparisons above could not tell one from the other.
    gradients = []
    for method in ("maml", "fomaml"):
        _, learner, tasks = conv_problem(method, 5, None)
        gradients.append(mean_meta_gradient(learner, Classification(WAY), tasks, cpu_runner()).theta)
    exact, first_order = gradients
    assert (exact - first_order).norm() > 0.1 * exact.norm()


@pytest.mark.parametrize(("method", "steps", "w"), [*EXACT, ("fomaml", 5, None)])
def test_loss_and_score_are_those_of_the_query_set_after_adaptation(method, steps, w):
    net, learner, _ = conv_problem(method, steps, w)
    tasks = image_tasks(2, WAY, 2, 3)
    found = mean_meta_gradient(learner, Classification(WAY), tasks, cpu_runner(2))
    assert found.loss.mean().item() == pytest.approx(plain_query_loss(net, learner, tasks).item(), rel=1e-10)
    qs, ps = plain_vectors(net, learner, learner.q, learner.p)
    for i in range(2):
        last = plain_adapt(net, learner.theta, qs, ps, w, tasks.support_x[i], tasks.support_y[i])[-1]
        guessed = net(last, tasks.query_x[i]).argmax(1)
        assert found.score[i].item() == pytest.approx((guessed == tasks.query_y[i]).double().mean().item())


def test_biases_before_batch_norm_have_no_meta_gradient():
    _, learner, tasks = conv_problem("pamela", 5, 2)
    found = mean_meta_gradient(learner, Classification(WAY), tasks, cpu_runner())
    named = learner.rule.layout.named(found.theta)
    assert all(named[f"block{b}.bias"].abs().max() == 0 for b in (1, 2, 3, 4))
    assert all(
        named[f"block{b}.{t}"].abs().min() > 0 for b in (1, 2, 3, 4) for t in ("weight", "scale", "shift")
    )


# --- other libraries --------------------------------------------------------------------------------


def library(name: str) -> ModuleType:
    """Another library; what it warns of at import is not ours to repair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            pytest.skip(f"{name} is not installed")


def flat(tensors) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])


def library_problem(learning_rate: float):
    learner = make_learner("maml", Conv4(5, 3, 20, 4), 5, lr=learning_rate)
    tasks = image_tasks(1, 5, 1, 3, channels=3, size=20)
    model = torch_conv4(PlainConv4(5, 3, 20, 4), learner.theta)
    ours = mean_meta_gradient(learner, Classification(5), tasks, cpu_runner()).theta
    return model, tasks, ours


@pytest.mark.parametrize("learning_rate", [0.01, 0.2])
def test_maml_agrees_with_higher(learning_rate):
    higher = library("higher")
    model, tasks, ours = library_problem(learning_rate)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with higher.innerloop_ctx(model, optimizer, copy_initial_weights=False) as (fast, inner):
            for _ in range(5):
                inner.step(F.cross_entropy(fast(tasks.support_x[0]), tasks.support_y[0]))
            loss = F.cross_entropy(fast(tasks.query_x[0]), tasks.query_y[0])
            theirs = flat(torch.autograd.grad(loss, list(model.parameters())))
    assert (ours - theirs).norm() <= 1e-10 * theirs.norm()


@pytest.mark.parametrize("learning_rate", [0.01, 0.2])
def test_maml_agrees_with_torchopt(learning_rate):
    torchopt = library("torchopt")
    model, tasks, ours = library_problem(learning_rate)
    start = list(model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inner = torchopt.MetaSGD(model, lr=learning_rate)
        for _ in range(5):
            inner.step(F.cross_entropy(model(tasks.support_x[0]), tasks.support_y[0]))
        loss = F.cross_entropy(model(tasks.query_x[0]), tasks.query_y[0])
        theirs = flat(torch.autograd.grad(loss, start))
    assert (ours - theirs).norm() <= 1e-10 * theirs.norm()


# --- several tasks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "w"), [("meta-sgd", None), ("q", None), ("pamela", 2)])
def test_tasks_together_have_the_mean_gradient_of_tasks_alone(method, w):
    learner = make_learner(method, Conv4(3, 2, 16, 3), 3, w)
    tasks, objective = image_tasks(4, 3, 1, 2, channels=2), Classification(3)
    alone = [
        mean_meta_gradient(learner, objective, Tasks(*(t[i : i + 1] for t in fields(tasks))), cpu_runner())
        for i in range(4)
    ]
    for at_a_time in (1, 2, 3, 4):
        together = mean_meta_gradient(learner, objective, tasks, cpu_runner(at_a_time))
        for name in ("theta", "q", "p"):
            mean = torch.stack([getattr(one, name) for one in alone]).mean(0)
            torch.testing.assert_close(getattr(together, name), mean, rtol=1e-10, atol=1e-12)
        for name in ("loss", "score"):
            each = torch.cat([getattr(one, name) for one in alone])
            torch.testing.assert_close(getattr(together, name), each, rtol=1e-10, atol=1e-12)


def fields(tasks: Tasks) -> tuple[Tensor, ...]:
    return tasks.support_x, tasks.support_y, tasks.query_x, tasks.query_y


@pytest.mark.parametrize("at_a_time", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_workers_leave_the_bits_alone(at_a_time, dtype):
    learner = make_learner("pamela", Conv4(3, 1, 16, 4), 3, 2).to(torch.device("cpu"), dtype)
    tasks, objective = image_tasks(6, 3, 1, 2), Classification(3)
    tasks = Tasks(tasks.support_x.to(dtype), tasks.support_y, tasks.query_x.to(dtype), tasks.query_y)
    results = [
        mean_meta_gradient(learner, objective, tasks, cpu_runner(at_a_time, workers))
        for workers in (1, 2, 3, 2)
    ]
    for other in results[1:]:
        for name in ("theta", "q", "p", "loss", "score"):
            assert torch.equal(getattr(other, name), getattr(results[0], name))


def test_one_task_that_explodes_leaves_the_others_finite_where_each_is_computed_alone():
    # The support target of the second task is so far away that its squared error overflows.
    tasks = parabola(0.0, 0.0, count=2)
    tasks.support_y[1] = 1e300
    learner = make_learner("q", Points(), 2)
    found = mean_meta_gradient(learner, Regression(), tasks, cpu_runner())
    assert found.loss[0].isfinite()
    assert not found.loss[1].isfinite()
