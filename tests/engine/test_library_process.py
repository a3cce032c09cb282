"""The library in somebody else's program: it leaves what is set there alone, and does not depend on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from engine_support import CPU, image_tasks, make_learner
from torch import Tensor, nn

from pamela_cli import Classification, Learner, Tasks, adapt, library, meta_train
from pamela_cli import make_learner as learner_of
from pamela_cli.engine import own_code
from pamela_cli.engine.backbones import Conv4
from pamela_cli.engine.compiling import can_be_compiled, why_not_compiled
from pamela_cli.engine.episodes import ImageEpisodes, ImagePool
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.methods import METHODS

LOSS = Classification(3)


@pytest.fixture(autouse=True)
def two_threads(same_process: None) -> None:
    torch.set_num_threads(2)


def vectors(tasks: int = 2) -> Tasks:
    x = torch.randn(tasks, 6, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(3).repeat(2).expand(tasks, -1)
    return Tasks(x, y, x, y)


def images(tasks: int = 2) -> Tasks:
    parts = vars(image_tasks(tasks, 3, 1, 2)).values()
    return Tasks(*(part.float() if part.is_floating_point() else part for part in parts))


def linear() -> Learner:
    torch.manual_seed(0)
    return learner_of(nn.Linear(4, 3))


def conv4() -> Learner:
    return make_learner("pamela", Conv4(3, 1, 16, 4), 3, 1).to(CPU, torch.float32)


# What training sets ----------------------------------------------------------------------------------


def test_threads_are_the_callers_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[int] = []

    def draw(step: int) -> Tasks:
        inside.append(torch.get_num_threads())
        return vectors()

    for smallest, expected in ((library.SMALL, 1), (1, 2)):  # a large network has those of the caller
        monkeypatch.setattr(library, "SMALL", smallest)
        inside.clear()
        between = [torch.get_num_threads() for _ in meta_train(linear(), LOSS, draw, 3)]
        assert between == [2, 2, 2]
        assert inside[1:] == [expected] * 2  # the first tasks are drawn to see how many there are


def test_they_are_after_a_step_that_failed() -> None:
    def draw(step: int) -> Tasks:
        if step == 1:
            raise KeyError("no such task")
        return vectors()

    steps = meta_train(linear(), LOSS, draw, 3)
    next(steps)
    with pytest.raises(KeyError):
        next(steps)
    assert torch.get_num_threads() == 2


def test_two_trainings_in_turns_are_what_they_are_alone() -> None:
    def train(learner: Learner, draw) -> Iterator[Tensor]:
        return (step.loss for step in meta_train(learner, LOSS, lambda step: draw(), 3))

    alone = [list(train(conv4(), images)), list(train(linear(), vectors))]
    pairs = list(zip(train(conv4(), images), train(linear(), vectors), strict=True))
    assert torch.get_num_threads() == 2
    assert own_code.in_use["cpu"] == can_be_compiled()
    for one, both in zip(alone, zip(*pairs, strict=True), strict=True):
        assert torch.equal(torch.stack(one), torch.stack(both))


@pytest.mark.parametrize(("tasks", "workers", "threads"), [(1, 1, 4), (2, 2, 2), (4, 4, 1), (9, 4, 1)])
def test_cores_are_shared_by_the_tasks_that_there_are(
    monkeypatch: pytest.MonkeyPatch, tasks: int, workers: int, threads: int
) -> None:
    seen: list[Plan] = []

    def runner(plan: Plan, settles: bool) -> Runner:
        seen.append(plan)
        return Runner(plan, settles=settles)

    monkeypatch.setattr(library, "Runner", runner)
    monkeypatch.setattr(library, "available_cores", lambda: 16)
    torch.set_num_threads(4)  # the caller wants no more
    drawn: list[int] = []

    def draw(step: int) -> Tasks:
        drawn.append(step)
        return images(tasks)

    list(meta_train(conv4(), LOSS, draw, 2))
    assert [(plan.workers, plan.threads) for plan in seen] == [(workers, threads)]
    assert drawn == [0, 1], "each step's tasks are drawn once"


# What the program has set ----------------------------------------------------------------------------


def test_inputs_may_be_part_of_a_graph() -> None:
    learner, tasks = conv4(), images(1)
    expected = adapt(learner, LOSS, tasks.support_x[0], tasks.support_y[0])
    recorded = tasks.support_x[0].clone().requires_grad_() * 1.0
    found = adapt(learner, LOSS, recorded, tasks.support_y[0])
    assert torch.equal(found.theta, expected.theta) and not found.theta.requires_grad


def test_inference_mode_is_refused_where_it_cannot_work() -> None:
    tasks = vectors(1)
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"forbids; use torch.no_grad\(\)$"):
        adapt(linear(), LOSS, tasks.support_x[0], tasks.support_y[0])


def drawn() -> list[Tensor]:
    """What starts at random, and a task."""
    backbone = Conv4(3, 1, 16, 4)
    rule = UpdateRule(METHODS["meta-sgd"], backbone.layout, 1, None)
    learner = Learner.initial(backbone, rule, 0.05, seed=1)
    how = {"device": "cpu", "dtype": torch.float32}
    pixels = torch.arange(12 * 64, device="cpu").to(torch.uint8).view(12, 1, 8, 8)
    edges = torch.arange(0, 13, 4, device="cpu")
    pool = ImagePool(pixels, edges, torch.zeros(1, **how), torch.ones(1, **how))
    tasks = ImageEpisodes(pool, "train", 3, 1, 2).draw(5, 1, range(2))
    return [learner.theta, learner.q, tasks.support_x, tasks.query_x]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_pytorch_takes_unless_told_otherwise_does_not_matter(dtype: torch.dtype) -> None:
    expected, usual, there = drawn(), torch.get_default_dtype(), can_be_compiled()
    try:
        torch.set_default_dtype(dtype)
        with torch.device("meta"):
            found = drawn()
            why_not_compiled.cache_clear()
            assert can_be_compiled() == there
    finally:
        torch.set_default_dtype(usual)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
