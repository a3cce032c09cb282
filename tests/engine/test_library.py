"""The library: the examples of its page, and what each public name promises."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_support import image_tasks
from torch import nn
from torch.nn import functional as F

import pamela_cli
from pamela_cli import (
    Classification,
    Tasks,
    adapt,
    evaluate,
    make_learner,
    meta_gradient,
    meta_train,
)
from pamela_cli.engine.device import choose_device

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


# The page --------------------------------------------------------------------------------------------


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


SMALLER = {
    "iterations=300": "iterations=3",
    "tasks=200": "tasks=2",
    "(64, 160, 320, 640), 20_000": "(4, 4, 4, 4), 2",
    "range(50)": "range(2)",
    "range(100)": "range(2)",
}


@pytest.mark.parametrize("number", range(5))
def test_examples_run(number: int, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand, but for the numbers of steps and channels."""
    code = examples()[number]
    assert len(code.splitlines()) <= 40
    for text, smaller in SMALLER.items():
        code = code.replace(text, smaller)
    monkeypatch.chdir(trained)
    exec(compile(code, f"example {number}", "exec"), {})


def test_all_examples_are_run() -> None:
    assert len(examples()) == 5
    assert all(any(text in example for example in examples()) for text in SMALLER)


def part_of_example(number: int, before: str, **names: Any) -> dict[str, Any]:
    """What an example has defined before a line of it."""
    code, found, _ = examples()[number].partition(before)
    assert found
    for text, smaller in SMALLER.items():
        code = code.replace(text, smaller)
    exec(compile(code, f"example {number}", "exec"), names)
    return names


@pytest.mark.parametrize("number", [0, 1])
def test_meta_gradient_of_the_examples_equals_finite_differences(number: int) -> None:
    torch.manual_seed(0)
    found = part_of_example(number, "learner = make_learner", zip=zip)
    learner = make_learner(found["module"].double(), "pamela", inner_lr=0.05)
    g = torch.Generator().manual_seed(1)
    learner.p += 0.1 * torch.randn(learner.p.shape, generator=g, dtype=torch.float64)
    tasks = found["draw"](0, 2) if number == 0 else image_tasks(2, 5, 1, 2, channels=3)
    tasks = Tasks(tasks.support_x.double(), tasks.support_y, tasks.query_x.double(), tasks.query_y)
    gradient = meta_gradient(learner, F.cross_entropy, tasks)
    start = [learner.theta.clone(), learner.q.clone(), learner.p.clone()]
    for _ in range(3):
        along = [torch.randn(t.shape, generator=g, dtype=torch.float64) / t.numel() ** 0.5 for t in start]
        losses = {}
        for step in (-2, -1, 1, 2):
            # So near that no ReLU opens or closes, and no pool takes another pixel.
            moved = [t + 1e-7 * step * d for t, d in zip(start, along, strict=True)]
            learner.theta, learner.q, learner.p = moved
            losses[step] = evaluate(learner, F.cross_entropy, tasks).loss[:, -1].mean()
        difference = (8 * (losses[1] - losses[-1]) - (losses[2] - losses[-2])) / 12e-7
        parts = zip((gradient.theta, gradient.q, gradient.p), along, strict=True)
        assert sum(float((part * d).sum()) for part, d in parts) == pytest.approx(difference, rel=1e-5)


# Public names ----------------------------------------------------------------------------------------


def test_the_page_lists_what_is_public() -> None:
    listed = PAGE.read_text(encoding="utf-8").partition("\n## ")[0]
    for name in pamela_cli.__all__:
        assert f"`{name}" in listed, name
        assert getattr(pamela_cli, name) is not None
    assert set(pamela_cli.__all__) <= set(dir(pamela_cli))
    with pytest.raises(AttributeError, match="no attribute 'bogus'"):
        _ = pamela_cli.bogus


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, pamela_cli; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'h5py')))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def points(step: int, tasks: int = 2) -> Tasks:
    g = torch.Generator().manual_seed(step)
    means = torch.randn(tasks, 3, 1, 4, generator=g)
    x = means + 0.3 * torch.randn(tasks, 3, 6, 4, generator=g)
    y = torch.arange(3)[None, :, None].expand(tasks, -1, 6)
    first, second = ((x[:, :, k].flatten(1, 2), y[:, :, k].flatten(1)) for k in (slice(2), slice(2, None)))
    return Tasks(*first, *second)


def test_training_learns_and_leaves_the_module_alone() -> None:
    module = linear()
    before = [p.clone() for p in module.parameters()]
    learner, test = make_learner(module, inner_lr=0.1), points(10**6, 40)
    start = evaluate(learner, Classification(3), test).final.mean()
    metrics = list(meta_train(learner, F.cross_entropy, points, 60, meta_lr=1e-2, phi_lr=1e-3))
    assert len(metrics) == 60 and all(float(step.skipped) == 0 for step in metrics)
    end = evaluate(learner, Classification(3), test)
    assert end.score.shape == (40, 6)
    assert end.final.mean() > start + 0.1
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


def test_an_outer_step_is_adam_on_the_meta_gradient() -> None:
    learner = make_learner(linear())
    found = meta_gradient(learner, F.cross_entropy, points(0))
    expected = learner.theta - 1e-3 * found.theta / (found.theta.abs() + 1e-8)
    (step,) = meta_train(learner, F.cross_entropy, points, 1)
    torch.testing.assert_close(learner.theta, expected)
    assert float(step.loss) == pytest.approx(float(found.loss.mean()))


def test_a_step_is_the_mean_over_as_many_tasks_as_are_drawn() -> None:
    """And each batch is drawn once."""
    learners = [make_learner(linear(), "maml") for _ in range(2)]
    batches = iter([points(0, 4), points(0, 8)])
    first, second = meta_train(learners[0], F.cross_entropy, lambda step: next(batches), 2)
    assert next(batches, None) is None
    (alone,) = meta_train(learners[1], F.cross_entropy, lambda step: points(0, 4), 1)
    assert torch.equal(first.gradient_norm, alone.gradient_norm)
    expected = meta_gradient(learners[1], F.cross_entropy, points(0, 8)).theta.norm()
    torch.testing.assert_close(second.gradient_norm, expected)


def test_methods_and_their_settings() -> None:
    assert make_learner(linear()).rule.skip_interval == 2
    assert make_learner(linear(), "maml").q.shape == (0, 0)
    one, two = (make_learner(linear(), "meta-sgd", seed=seed) for seed in (0, 1))
    assert one.rule.steps == 1 and not torch.equal(one.q, two.q)
    for arguments, message in (
        ({"method": "reptile"}, "method must be one of maml"),
        ({"method": "maml", "skip_interval": 2}, "skip_interval is for method pamela"),
        ({"steps": 3, "skip_interval": 3}, "skip_interval must be below steps"),
        ({"skip_interval": 0}, "skip_interval must be"),
        ({"steps": 1}, "steps must be at least 2"),
        ({"method": "maml", "steps": 0}, "steps must be at least 1, not 0"),
        ({"method": "q", "steps": -3}, "steps must be at least 1, not -3"),
        ({"inner_lr": -1.0}, "inner_lr must be above 0"),
        ({"seed": -1}, "seed must be at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make_learner(linear(), **arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 0),
        ("schedule", "step"),
        ("meta_lr", -1.0),
        ("meta_lr", float("nan")),
        ("phi_lr", 0.0),
        ("clip", -1.0),
        ("weight_decay", -1e-4),
        ("meta_batch", 0),
    ],
)
def test_what_cannot_be_is_told_before_training(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        meta_train(make_learner(linear()), F.cross_entropy, points, **({"iterations": 1} | {name: value}))


def test_a_typo_is_no_other_way_to_judge() -> None:
    with pytest.raises(ValueError, match="norm_stats must be 'query' or 'support', not 'Support'"):
        evaluate(make_learner(linear()), Classification(3), points(0, 1), norm_stats="Support")


def test_no_tasks_are_no_result() -> None:
    drawn = points(0, 1)
    none = Tasks(*(t[:0] for t in (drawn.support_x, drawn.support_y, drawn.query_x, drawn.query_y)))
    with pytest.raises(ValueError, match="at least one task"):
        evaluate(make_learner(linear()), Classification(3), none)


@pytest.mark.parametrize("part", ["support_x", "support_y", "query_x", "query_y"])
def test_tasks_that_do_not_fit_together(part: str) -> None:
    drawn, learner = points(0, 2), make_learner(linear())
    fewer_tasks = replace(drawn, **{part: getattr(drawn, part)[:1]})
    fewer_examples = replace(drawn, **{part: getattr(drawn, part)[:, :1]})
    for tasks, said in (
        (fewer_tasks, "must have the same number of tasks"),
        (fewer_examples, "one target for each example of"),
    ):
        for use in (
            lambda t: meta_gradient(learner, F.cross_entropy, t),
            lambda t: evaluate(learner, Classification(3), t),
            lambda t: next(meta_train(learner, F.cross_entropy, lambda _: t, 1)),
        ):
            with pytest.raises(ValueError, match=said):
                use(tasks)
    with pytest.raises(ValueError, match="support_y must have one target"):
        adapt(learner, F.cross_entropy, drawn.support_x[0], drawn.support_y[0, :1])


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"^device must be auto, cpu, cuda or cuda:N, not 'gpu'$"):
        choose_device("gpu")


def test_a_learner_prints_on_one_line() -> None:
    learner = make_learner(linear(), "pamela", steps=4, skip_interval=1)
    text = repr(learner)
    assert text.startswith("Learner(PAMELA (+Q+P), 4 updates, w = 1; θ ") and "\n" not in text
    assert f"{learner.theta.numel():,}" in text and "torch.float32, cpu" in text


def test_adapted_is_what_evaluate_judges() -> None:
    learner, tasks = make_learner(linear(), inner_lr=0.2), points(3, 1)
    for steps in (None, 0, 7):
        found = adapt(learner, F.cross_entropy, tasks.support_x[0], tasks.support_y[0], steps)
        judged = evaluate(learner, Classification(3), tasks, steps)
        hits = found.outputs(tasks.query_x[0]).argmax(1) == tasks.query_y[0]
        assert float(hits.double().mean()) == pytest.approx(judged.final[0])
        assert judged.loss.shape == (1, (5 if steps is None else steps) + 1)


def test_what_is_no_module_and_what_are_no_tasks() -> None:
    with pytest.raises(TypeError, match=r"^module must be a torch.nn.Module, not <function"):
        make_learner(lambda x: x)  # type: ignore[arg-type]
    learner, parts = make_learner(linear()), tuple(vars(points(0)).values())
    for call in (
        lambda: meta_gradient(learner, F.cross_entropy, parts),
        lambda: next(meta_train(learner, F.cross_entropy, lambda step: parts, 1)),
    ):
        with pytest.raises(TypeError, match="tasks must be Tasks, which draw must return, not tuple"):
            call()


def test_a_users_threads_are_left_alone() -> None:
    torch.set_num_threads(2)
    meta_gradient(make_learner(linear()), F.cross_entropy, points(0))
    assert torch.get_num_threads() == 2
