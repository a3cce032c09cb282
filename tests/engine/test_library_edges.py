"""The library at the edges of what its users pass: each gets the right answer, or one sentence."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from engine_support import generator
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from pamela_cli import (
    Augmentation,
    Classification,
    Learner,
    OwnLoss,
    Regression,
    Tasks,
    adapt,
    evaluate,
    make_learner,
    meta_gradient,
    meta_train,
    module_layers,
)
from pamela_cli.engine.episodes import ImageEpisodes, ImagePool
from pamela_cli.engine.inner_loop import inner_loop

LOSS = Classification(3)


def labelled(count: int = 2, support: int = 6, query: int = 6, size: int = 4) -> Tasks:
    g = generator(0)
    parts = []
    for each in (support, query):
        labels = torch.arange(3).repeat(each // 3 or 1)[:each].expand(count, -1)
        parts += [torch.randn(count, each, size, generator=g), labels]
    return Tasks(*parts)


def classifier(size: int = 4) -> nn.Module:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(8, track_running_stats=False)
    return nn.Sequential(nn.Linear(size, 8), norm, nn.ReLU(), nn.Linear(8, 3))


def learner_of(method: str = "pamela", **settings: Any) -> Learner:
    return make_learner(classifier(), method, inner_lr=0.1, **settings)


def test_shares_of_classes_may_be_adapted_to() -> None:
    """As targets they say what the classes themselves do, where they are sure."""
    learner, sure = learner_of(), torch.nn.functional.one_hot(Y, 3).float()
    one, other = (adapt(learner, Classification(3), X, y).theta for y in (Y, sure))
    torch.testing.assert_close(one, other)
    assert not torch.equal(one, adapt(learner, Classification(3), X, SHARES).theta)


# Batch norm of a single input -----------------------------------------------------------------------


def test_one_input_goes_through_batch_norm_by_the_statistics_of_the_support_set() -> None:
    learner, tasks = learner_of(), labelled(1)
    own = adapt(learner, LOSS, tasks.support_x[0], tasks.support_y[0])
    x = tasks.query_x[0]
    weight, bias, scale, shift, head, head_bias = own.parameters.values()
    hidden = tasks.support_x[0] @ weight.T + bias
    mean, variance = hidden.mean(0), hidden.var(0, correction=0)
    normed = ((x @ weight.T + bias) - mean) / (variance + 1e-5).sqrt() * scale + shift
    expected = normed.relu() @ head.T + head_bias
    torch.testing.assert_close(own.outputs(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(own.outputs(x[:1]), expected[:1], rtol=1e-4, atol=1e-5)


def test_a_single_query_is_evaluated_by_the_statistics_of_the_support_set() -> None:
    found = evaluate(learner_of(), LOSS, labelled(2, 6, 1), norm_stats="support")
    assert found.final.shape == (2,) and np.isfinite(found.loss).all()


def test_the_module_computes_as_before_afterwards() -> None:
    learner, tasks = learner_of(), labelled(1)
    before = meta_gradient(learner, LOSS, tasks)
    evaluate(learner, LOSS, tasks, norm_stats="support")
    assert torch.equal(meta_gradient(learner, LOSS, tasks).theta, before.theta)


# Q and P of layers ----------------------------------------------------------------------------------


def test_what_follows_a_frozen_convolution_does_not_belong_to_an_earlier_one() -> None:
    frozen = nn.Conv2d(8, 8, 3).requires_grad_(False)
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), frozen, norm, nn.Flatten(), nn.Linear(8, 2))
    layers = {layer.name: layer.parameters for layer in module_layers(module)}
    assert layers == {
        "0": ("0.weight", "0.bias"), "3": ("3.weight", "3.bias"), "5": ("5.weight", "5.bias"),
    }  # fmt: skip


def test_q_starts_at_the_inner_learning_rate_in_float64_too() -> None:
    q = make_learner(classifier().double(), "q", inner_lr=0.01).q
    assert q.dtype == torch.float64 and set(q.flatten().tolist()) == {0.01}


# Copies ---------------------------------------------------------------------------------------------


def test_copies_do_not_move_with_what_they_are_of() -> None:
    learner, tasks = learner_of(), labelled(1)
    own = adapt(learner, LOSS, tasks.support_x[0], tasks.support_y[0], steps=0)
    copies = [own, own.to(torch.device("cpu")), learner.to(learner.theta.device, learner.theta.dtype)]
    kept = [each.theta.clone() for each in copies]
    learner.theta.add_(1)
    own.theta.add_(2)
    assert torch.equal(copies[0].theta, kept[0] + 2)
    assert all(torch.equal(each.theta, before) for each, before in zip(copies[1:], kept[1:], strict=True))


# What adaptation holds on to -----------------------------------------------------------------------


@pytest.mark.parametrize(("method", "most"), [("q", 1), ("pamela", 2)])
def test_adaptation_holds_on_to_what_connections_go_back_to_alone(method: str, most: int) -> None:
    learner, seen, alive = learner_of(method, steps=12), [], []
    for theta in inner_loop(learner, LOSS, labelled(), learner.expand(), 12):
        seen.append(weakref.ref(theta))
        del theta
        alive.append(sum(ref() is not None for ref in seen))
    assert max(alive) == most  # θ_j, and the θ_{j−w} of the next connection


# NumPy's numbers ------------------------------------------------------------------------------------


def test_numbers_may_be_those_of_numpy() -> None:
    one, other = (
        [
            float(step.loss)
            for step in meta_train(learner_of(seed=as_int(1)), LOSS, lambda step: labelled(), as_int(2))
        ]
        for as_int in (int, np.int64)
    )
    assert one == other
    meta_sgd = [make_learner(classifier(), "meta-sgd", seed=as_int(3)).q for as_int in (int, np.int64)]
    assert torch.equal(*meta_sgd)


def pool(side: int = 8) -> ImagePool:
    images = torch.randint(0, 256, (12, 1, side, side), dtype=torch.uint8, generator=generator(1))
    return ImagePool(images, torch.arange(0, 13, 4), torch.zeros(1), torch.ones(1))


def test_tasks_are_drawn_by_seeds_of_numpy() -> None:
    source = ImageEpisodes(pool(), "train", 3, 1, 2)
    one, other = (source.draw(as_int(3), as_int(1), range(2)).query_x for as_int in (int, np.int64))
    assert torch.equal(one, other)


# Sentences ------------------------------------------------------------------------------------------

X, Y = torch.randn(6, 4), torch.arange(3).repeat(2)
SHARES = torch.full((6, 3), 1 / 3)
FLAT = Tasks(torch.randn(2, 5, 1), torch.randn(2, 5), torch.randn(2, 5, 1), torch.randn(2, 5))
LINE = nn.Sequential(nn.Linear(1, 1))


def trained(loss: Any, draw: Any) -> Any:
    return meta_train(learner_of(), loss, draw, 2)


class Given:
    """A source of the same tasks."""

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = tasks

    def draw(self, seed: int, step: int, indices: Any) -> Tasks:
        return self.tasks


def doubled(tasks: Tasks) -> Tasks:
    return Tasks(tasks.support_x.double(), tasks.support_y, tasks.query_x.double(), tasks.query_y)


def own(**settings: Any) -> Any:
    return adapt(learner_of(), LOSS, X, Y, **settings)


WRONG: list[tuple[Any, str]] = [
    (lambda: meta_gradient(make_learner(LINE), Regression(), FLAT), r"its outputs, \(5, 1\), not \(5,\)"),
    (lambda: own(steps=-1), "steps must be a whole number, 0 or more, not -1"),
    (lambda: own(steps=2.5), "steps must be a whole number"),
    (lambda: own().outputs(X, "Query"), "norm_stats must be 'query' or 'support', not 'Query'"),
    (lambda: own().outputs(X[:0]), "at least one input"),
    (lambda: adapt(learner_of(), LOSS, X[:0], Y[:0]), "support_x must have at least one example"),
    (lambda: evaluate(learner_of(), LOSS, labelled(), steps=-3), "steps must be a whole number"),
    (lambda: evaluate(learner_of(), LOSS, []), "at least one batch"),
    (lambda: evaluate(learner_of(), LOSS, labelled(2, 6, 0)), "query_x must have at least one example"),
    (lambda: evaluate(learner_of(), Classification(9), labelled()), "3 outputs, .* not enough for 9 classes"),
    (lambda: meta_gradient(learner_of(), Classification(9), labelled()), "3 outputs, .* for 9 classes"),
    (lambda: evaluate(learner_of(), Classification(2), labelled()), "classes from 0 to 1, not 0 to 2"),
    (lambda: adapt(learner_of(), Classification(3), X, Y - 1), "classes from 0 to 2, not -1 to 1"),
    (
        lambda: adapt(learner_of(), Classification(3), X, Y.int()),
        "classes of type torch.int64, not torch.int32",
    ),
    (lambda: adapt(learner_of(), Classification(3), X, Y[:, None].float()), r"shape \(examples, 3\)"),
    (lambda: adapt(learner_of(), Classification(3), X, SHARES - 1), "shares of classes: of each example ≥ 0"),
    (lambda: adapt(learner_of(), Classification(3), X, 2 * SHARES), "and 1 together"),
    (lambda: adapt(learner_of(), Classification(3), X, SHARES / 0), "and 1 together"),
    (lambda: adapt(learner_of(), Classification(3), X.double(), Y), "support_x must be torch.float32"),
    (lambda: next(trained(Classification(2), lambda step: labelled())), "support_y must be classes"),
    (lambda: trained(Classification(2), Given(labelled(1))), "support_y must be classes"),
    (lambda: trained(LOSS, Given(doubled(labelled(1)))), "support_x must be torch.float32"),
    (lambda: learner_of("maml", steps=2.5), "steps must be a whole number"),
    (lambda: learner_of(skip_interval=2.0), "skip_interval must be a whole number"),
    (lambda: trained(LOSS, labelled()), "draw must be a function of the step"),
    (lambda: trained(Classification, lambda step: labelled()), "loss must be a function"),
    (lambda: trained(None, lambda step: labelled()), "loss must be a function"),
    (lambda: ImageEpisodes(pool(), "train", 3, 1, 2, augmentation=Augmentation(5)), "crop must be at most"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_what_cannot_be_is_said_at_once(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


class Counting(nn.Linear):
    """A layer that counts its calls, in place or with another tensor."""

    def __init__(self, in_place: bool) -> None:
        super().__init__(4, 3)
        self.in_place = in_place
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.in_place:
            self.calls += 1
        else:
            self.calls = self.calls + 1
        return super().forward(x)


@pytest.mark.parametrize(
    ("module", "buffer"),
    [
        (Counting(True), "calls"),
        (Counting(False), "calls"),
        (nn.Sequential(spectral_norm(nn.Linear(4, 3), n_power_iterations=100)), r"_u"),  # it has converged
    ],
)
def test_a_module_that_changes_itself_is_refused(module: nn.Module, buffer: str) -> None:
    learner = make_learner(module)
    for use in (
        lambda: evaluate(learner, LOSS, labelled()),
        lambda: meta_gradient(learner, LOSS, labelled()),
    ):
        with pytest.raises(ValueError, match=f"changes its buffer '.*{buffer}' when it is called"):
            use()


def test_a_module_that_has_stopped_to_change_itself_is_taken() -> None:
    module = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))).eval()
    one, other = (evaluate(make_learner(module), LOSS, labelled()).loss for _ in range(2))
    assert (one == other).all()


# Losses and measures of one's own -------------------------------------------------------------------


@pytest.mark.parametrize(
    "hits", [lambda o, t: (o.argmax(1) == t).sum(), lambda o, t: (o.argmax(1) == t).sum().item()]
)
def test_a_measure_may_be_any_number(hits: Any) -> None:
    learner, tasks = learner_of(), labelled()
    found = evaluate(learner, OwnLoss(F.cross_entropy, hits), tasks)
    expected = evaluate(learner, LOSS, tasks)
    assert found.score == pytest.approx(6 * expected.score) and found.loss == pytest.approx(expected.loss)
    (step,) = meta_train(learner, OwnLoss(F.cross_entropy, hits), lambda step: tasks, 1)
    assert 0 <= float(step.score) <= 6


def test_tasks_of_a_source_are_drawn_by_seed_step_and_place() -> None:
    asked = []

    class Source:
        def draw(self, seed, step, indices):
            asked.append((seed, step, list(indices)))
            return labelled(len(indices))

    list(meta_train(learner_of(), LOSS, Source(), 2, meta_batch=3, seed=7))
    assert asked == [(7, 0, [0]), (7, 0, [0, 1, 2]), (7, 1, [0, 1, 2])]
