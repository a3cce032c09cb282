"""What a task costs: numbers, operations, memory and time, against counts by hand."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest
import torch

from pamela_cli.complexity import measure as measuring
from pamela_cli.complexity import timing
from pamela_cli.complexity.cases import Case, Work, count_flops, make_cases
from pamela_cli.complexity.measure import measure
from pamela_cli.console import Console
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.errors import UsageError
from pamela_cli.methods import COMPARED, METHODS

CPU = torch.device("cpu")
PLAN = Plan("cpu", 1, 1, 1, 1)
PAPER = {"image_size": 84, "channels": 3}
SMALL = {"image_size": 16, "channels": 1, "width": 4, "query": 2, "steps": 2}


def case_of(method: str, order: str, settings: dict) -> Case:
    (found,) = (case for case in make_cases([method], settings) if case.order == order)
    return found


# --- meta-parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "counts"),
    [
        ("maml", (121_093, 0, 0)),
        ("meta-sgd", (121_093, 121_093, 0)),
        ("q-shared", (121_093, 8_261, 0)),
        ("q", (121_093, 41_305, 0)),
        ("pamela", (121_093, 41_305, 10)),
    ],
)
def test_meta_parameters_of_the_papers_setting(method, counts):
    for case in make_cases([method], PAPER):
        assert Work(case, torch.device("meta")).learner.rule.meta_parameters == counts


# --- operations --------------------------------------------------------------------------------------


@dataclass
class HandCount:
    """Operations by formula: 2 for a multiply-add, each padded place counted, no bias.

    A layer's forward pass, and its gradients with respect to the weight and to the input cost the same number
    of operations F. The images want no gradient, so the first layer has no third one.
    """

    way: int
    channels: int
    size: int
    width: int

    def layers(self) -> list[int]:
        """F of each layer for one image."""
        sides = [self.size >> block for block in range(4)]
        inputs = [self.channels, self.width, self.width, self.width]
        convolutions = [2 * 9 * into * self.width * side**2 for into, side in zip(inputs, sides, strict=True)]
        return [*convolutions, 2 * self.width * (self.size >> 4) ** 2 * self.way]

    def forward(self) -> int:
        return sum(self.layers())

    def gradient(self) -> int:
        """Forward, and backward to the weights."""
        first, *others = self.layers()
        return 2 * first + 3 * sum(others)

    def differentiated_update(self) -> int:
        """The gradient, and backward through it: two operations more for each that it is made of.

        Each product of two factors sends a cotangent to both. Of the first layer's two products, forward
        (of the image and the weight) and weight gradient (of the image and the cotangent), the image
        wants none.
        """
        first, *others = self.layers()
        return self.gradient() + 2 * first + 6 * sum(others)

    def training(self, order: str, updates: int, support: int, query: int) -> int:
        update = self.differentiated_update() if order == "second" else self.gradient()
        return updates * support * update + query * self.gradient()

    def testing(self, updates: int, support: int, query: int) -> int:
        return updates * support * self.gradient() + query * self.forward()


@pytest.mark.parametrize("order", ["second", "first"])
@pytest.mark.parametrize("method", COMPARED)
@pytest.mark.parametrize(
    "settings",
    [
        PAPER | {"steps": 3},
        {"image_size": 28, "channels": 1, "way": 7, "shot": 3, "query": 4, "width": 6, "steps": 3},
    ],
)
def test_operations_agree_with_the_count_by_hand(settings, method, order):
    case = case_of(method, order, settings)
    c = case.config
    hand = HandCount(c.way, c.channels, c.image_size, c.width)
    images = (c.way * c.shot, c.way * c.query)
    training, testing = count_flops(case, PLAN)
    assert training == pytest.approx(hand.training(order, c.steps, *images), rel=0.01)
    assert testing == pytest.approx(hand.testing(c.steps, *images), rel=0.01)


def test_operations_of_the_papers_setting():
    """The numbers in the docs."""
    assert count_flops(case_of("pamela", "second", PAPER), PLAN) == pytest.approx((82.6e9, 28.5e9), rel=0.01)


def test_counting_needs_no_memory_for_the_images():
    huge = {"image_size": 224, "channels": 3, "way": 100, "shot": 100, "query": 100, "width": 512}
    training, testing = count_flops(case_of("maml", "second", huge), PLAN)
    assert training > testing > 10**15


# --- cases -------------------------------------------------------------------------------------------


def test_cases_are_each_method_in_both_orders():
    cases = make_cases(COMPARED, PAPER)
    assert [(c.config.method, c.order) for c in cases] == list(
        itertools.product(COMPARED, ("second", "first"))
    )


def test_settings_go_to_the_methods_that_heed_them():
    configs = {
        c.config.method: c.config
        for c in make_cases(COMPARED, {**PAPER, "steps": 7, "skip_interval": 3, "shot": 5})
    }
    assert {name: c.steps for name, c in configs.items()} == {
        "maml": 7, "meta-sgd": 1, "q-shared": 7, "q": 7, "pamela": 7,
    }  # fmt: skip
    assert {name: c.skip_interval for name, c in configs.items()} == {
        "maml": None, "meta-sgd": None, "q-shared": None, "q": None, "pamela": 3,
    }  # fmt: skip
    assert {c.shot for c in configs.values()} == {5}


def test_wrong_settings_are_wrong_usage():
    with pytest.raises(UsageError, match="--skip-interval must be below --steps"):
        make_cases(["pamela"], {**PAPER, "steps": 3, "skip_interval": 3})


def test_first_order_of_maml_is_fomaml():
    method = Work(case_of("maml", "first", SMALL), CPU).learner.rule.method
    assert replace(method, title="FOMAML") == METHODS["fomaml"]


def test_orders_differ_in_the_meta_gradient_alone():
    second, first = (Work(case_of("pamela", order, SMALL), CPU) for order in ("second", "first"))
    assert torch.equal(second.learner.theta, first.learner.theta)
    tasks = second.tasks(2)
    gradients = [mean_meta_gradient(w.learner, w.objective, tasks, Runner(PLAN)) for w in (second, first)]
    assert torch.equal(gradients[0].loss, gradients[1].loss)
    assert not torch.allclose(gradients[0].theta, gradients[1].theta)


def test_tasks_have_the_shape_asked_for():
    settings = {**SMALL, "way": 3, "shot": 2, "precision": "float64"}
    tasks = Work(case_of("maml", "second", settings), CPU).tasks(4)
    assert tasks.support_x.shape == (4, 6, 1, 16, 16)
    assert tasks.query_x.shape == (4, 6, 1, 16, 16)
    assert tasks.query_x.dtype == torch.float64
    assert tasks.support_y.tolist() == [[0, 0, 1, 1, 2, 2]] * 4


# --- times -------------------------------------------------------------------------------------------


def test_clock_gives_median_and_interquartile_range(monkeypatch):
    now = iter([0.0, 9.0, 10.0, 10.8, 20.0, 20.2, 30.0, 30.4, 40.0, 40.6, 50.0, 51.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(now))
    clock = timing.Clock("work", 2, lambda: None)
    for repetition in range(6):
        clock.take(CPU, counts=repetition > 0)
    record = clock.record("train")
    assert record["train_ms_warmup"] == pytest.approx(4500)
    assert record["train_ms_samples"] == pytest.approx([400, 100, 200, 300, 500])
    assert record["train_ms"] == pytest.approx(300)
    assert record["train_ms_spread"] == pytest.approx(200)


def test_rounds_take_the_rows_in_turn(monkeypatch, capsys):
    order = []
    monkeypatch.setattr(Work, "train", lambda self, tasks, runner: order.append(f"train{len(tasks)}"))
    monkeypatch.setattr(Work, "test", lambda self, tasks, runner: order.append(f"test{len(tasks)}"))
    plan = Plan("cpu", tasks_at_a_time=2, judged_at_a_time=1, workers=3, threads=1)
    cases = make_cases(["maml", "q"], SMALL)
    training, testing, runner = timing.time_cases(cases, plan, 2, Console())
    assert order == [*["train6"] * 4, *["test3"] * 2] * 3
    assert runner.lowered == []
    assert [len(clock.samples) for clock in (*training, *testing.values())] == [2] * 6
    assert "warm-up round" in capsys.readouterr().err


# --- the document ------------------------------------------------------------------------------------


def test_paper_stands_beside_its_own_setting_alone(monkeypatch):
    monkeypatch.setattr(measuring, "peak_memories", lambda cases, plan: [1] * len(cases))
    monkeypatch.setattr(Work, "train", lambda self, tasks, runner: None)
    monkeypatch.setattr(Work, "test", lambda self, tasks, runner: None)
    monkeypatch.setattr(measuring, "count_flops", lambda case, plan: (2, 1))
    monkeypatch.setattr(measuring, "_plan", lambda cases, device: PLAN)

    def papers(**changed):
        rows = measure(make_cases(COMPARED, {**PAPER, "query": 1, **changed}), CPU, 2, Console(quiet=True))
        return {(r["method"], r["order"]): r["paper"] for r in rows["rows"] if r["paper"]}

    beside = papers()
    assert beside["pamela", "second"] == {
        "parameters": 162_390, "updates": 5, "train_ms": 215.84, "test_ms": 43.33,
    }  # fmt: skip
    assert set(beside) == {(name, "second") for name in ("maml", "meta-sgd", "pamela")}
    assert papers(shot=5) == beside  # the paper does not tell its shot
    assert set(papers(steps=4)) == {("meta-sgd", "second")}
    for changed in ({"image_size": 28}, {"channels": 1}, {"way": 20}, {"width": 32}):
        assert papers(**changed) == {}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_measuring_on_a_cuda_device():
    cases = make_cases(["maml", "pamela"], {"image_size": 48, "channels": 3, "width": 32})
    document = measure(cases, torch.device("cuda", 0), 3, Console(quiet=True))
    least = 2 * 75 * 32 * 48 * 48 * 4
    peaks = {(row["method"], row["order"]): row["peak_memory_bytes"] for row in document["rows"]}
    for method in ("maml", "pamela"):
        assert least < peaks[method, "first"] < peaks[method, "second"] < 10 * least
    assert document["train_tasks_per_repetition"] == 4
    assert all(row["train_ms"] > 0 and row["test_ms"] > 0 for row in document["rows"])
    assert document["environment"]["gpu"] in str(torch.cuda.get_device_name(0))
