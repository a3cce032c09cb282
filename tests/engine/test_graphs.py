"""Work that is recorded and replayed: held against the same work done as usual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch
from engine_support import image_tasks, make_learner
from recording_support import StandIn
from torch import Tensor, nn

from pamela_cli.engine import graphs
from pamela_cli.engine import runner as engine_runner
from pamela_cli.engine.backbones import MLP, Conv4
from pamela_cli.engine.episodes import SineEpisodes
from pamela_cli.engine.evaluation import evaluate
from pamela_cli.engine.graphs import USUAL_TIMES, Graphs, RecordedWork
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.outer_loop import OuterLoop, OuterSettings
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.engine.tasks import Classification, Regression, Tasks
from pamela_cli.library import make_learner as learner_of

CPU = torch.device("cpu")


def called_often(made: Graphs, times: int = USUAL_TIMES + 2) -> Graphs:
    for _ in range(times):
        made.call("x", lambda t: (t,), torch.ones(1))
    return made


def trained(learner: Learner, steps: int, at_a_time: int) -> list[Tensor]:
    settings = OuterSettings(steps, 4, meta_lr=1e-2, phi_lr=1e-3, clip=10.0, schedule="cosine")
    runner = Runner(Plan("cpu", at_a_time, 4, 1, 1))
    loop = OuterLoop(learner, Regression(), runner, settings, seed=1)
    metrics = [each.stacked() for each in loop.run(SineEpisodes("train", 5, 5, CPU, torch.float64))]
    return [learner.theta, learner.q, learner.p, torch.stack(metrics)]


@pytest.mark.parametrize("at_a_time", [1, 3, 4])
def test_training_comes_to_the_same_bits(recorded, monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> None:
    replayed = trained(make_learner("pamela", MLP((1, 8, 1)), 3, 1), 12, at_a_time)
    shapes = {1: 1, 3: 2, 4: 1}[at_a_time]  # 3 and 1 of 4 tasks are two kinds of work
    assert len(recorded) == 1 + shapes, "the tasks, and what is computed of them"
    assert sum(each.graph.replays for each in recorded) >= 12 - USUAL_TIMES
    monkeypatch.undo()
    for one, other in zip(
        replayed, trained(make_learner("pamela", MLP((1, 8, 1)), 3, 1), 12, at_a_time), strict=True
    ):
        assert torch.equal(one, other)


def test_work_of_others_is_told_apart(recorded) -> None:
    """One runner may serve several learners, objectives and sizes of tasks."""
    runner, plain = Runner(Plan("cpu", 2, 2, 1, 1)), Runner(Plan("cpu", 2, 2, 1, 1))
    plain.graphs.wanted = False
    backbone = Conv4(3, 1, 16, 4)
    learners = [
        make_learner("pamela", backbone, 3, 1),
        make_learner("q", backbone, 3),
        make_learner("maml", backbone, 2),
    ]
    cases = [(learner, image_tasks(2, 3, shot, 2)) for learner in learners for shot in (1, 2)]
    objective = Classification(3)
    for _ in range(USUAL_TIMES + 2):
        for learner, tasks in cases:
            found, expected = (mean_meta_gradient(learner, objective, tasks, r) for r in (runner, plain))
            for name in ("theta", "q", "p", "loss", "score"):
                assert torch.equal(getattr(found, name), getattr(expected, name))
            learner.theta += 0.01  # as an optimizer does, in place
    assert len(recorded) == len(cases)


def test_other_objectives_and_plans_are_told_apart(recorded) -> None:
    learner, tasks = make_learner("pamela", Conv4(3, 1, 16, 4), 3, 1), image_tasks(2, 3, 1, 2)
    runners = [Runner(Plan("cpu", 2, 2, 1, 1)) for _ in range(2)]
    runners[1].graphs.wanted = False
    few = replace(tasks, support_y=tasks.support_y % 2, query_y=tasks.query_y % 2)
    cases = [
        (objective, given, kept)
        for objective, given in ((Classification(3), tasks), (Classification(2), few))
        for kept in (None, 0)
    ]
    for _ in range(USUAL_TIMES + 2):
        for objective, given, kept in cases:
            for runner in runners:
                runner.plan = replace(runner.plan, kept_updates=kept)
            found, expected = (mean_meta_gradient(learner, objective, given, r) for r in runners)
            assert torch.equal(found.theta, expected.theta) and torch.equal(found.score, expected.score)
        learner.theta += 0.01
    assert len(recorded) == len(cases)


def test_evaluations_of_other_kinds_are_told_apart(recorded) -> None:
    learner, tasks = make_learner("pamela", Conv4(3, 1, 16, 4), 3, 1), image_tasks(2, 3, 2, 4)
    runner, plain = (Runner(Plan("cpu", 2, 2, 1, 1)) for _ in range(2))
    plain.graphs.wanted = False
    kinds = list(product((2, 3), ("query", "support"), (False, True), (False, True)))
    objective, seen = Classification(3), set()
    for _ in range(USUAL_TIMES + 2):
        for steps, stats, every, mirror in kinds:
            found, expected = (
                next(
                    evaluate(
                        learner, objective, [tasks], r, steps, stats, every_step=every, mirror_query=mirror
                    )
                )
                for r in (runner, plain)
            )
            assert (found.loss == expected.loss).all() and (found.score == expected.score).all()
            seen.add(found.loss[:, -1].tobytes())
    assert len(recorded) == len(kinds)
    assert len(seen) == 8, "steps, statistics and mirror images make no difference here"


def test_what_is_returned_may_be_kept(recorded) -> None:
    made = Graphs(CPU)
    results = [made.call("x", lambda t: (t + 1, 2 * t), torch.tensor([float(i)])) for i in range(8)]
    assert len(recorded) == 1
    assert [[t.item() for t in each] for each in results] == [[i + 1, 2 * i] for i in range(8)]


def test_what_is_done_a_few_times_is_not_recorded(recorded) -> None:
    made = called_often(Graphs(CPU), USUAL_TIMES - 1)
    made.call("y", lambda t: (t,), torch.ones(1))
    made.call("x", lambda t: (t,), torch.ones(2))
    assert recorded == []


def test_numbers_that_are_not_finite_are_waited_out(recorded) -> None:
    """There is nothing that a replay could be held against."""
    made = Graphs(CPU)
    for _ in range(USUAL_TIMES + 2):
        made.call("x", lambda t: (t,), torch.tensor([torch.nan]))
    assert recorded == []
    made.call("x", lambda t: (t,), torch.ones(1))
    assert len(recorded) == 1


def failing(*_: object) -> RecordedWork:
    try:
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")
    except RuntimeError as error:
        raise RuntimeError("operation failed due to a previous error during capture") from error


def replaying(replay: Callable[[Tensor], graphs.Tensors]) -> Callable[..., RecordedWork]:
    """Records other work than it is given."""

    def of(work: graphs.Work, inputs: graphs.Tensors, place: object) -> RecordedWork:
        own = tuple(t.clone() for t in inputs)
        outputs = tuple(t.clone() for t in replay(*own))
        return RecordedWork(work, StandIn(replay, own, outputs), own, outputs)

    return of


def stale(t: Tensor) -> graphs.Tensors:
    return torch.full_like(t, 6), t.clone()  # right for the inputs that it is recorded with, and no others


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (failing, "CUDA out of memory"),
        (replaying(lambda t: (2.02 * t, t)), "a replay differed by 1e-02"),
        (replaying(lambda t: (2 * t, t / 0 * 0)), "a replay differed by nan"),
        (replaying(stale), "a replay differed by 2e-01"),
    ],
)
def test_where_it_does_not_work_all_is_done_as_usual(recorded, monkeypatch, of, says: str) -> None:
    monkeypatch.setattr(RecordedWork, "of", of)
    made, given = Graphs(CPU), [torch.tensor([1.0 + i]) for i in range(8)]
    seen: list[Tensor] = []

    def work(t: Tensor) -> graphs.Tensors:
        seen.append(t)
        return 2 * t, t

    with pytest.warns(RuntimeWarning, match="CUDA graphs cannot be used"):
        assert [made.call("x", work, t)[0].item() for t in given] == [2 + 2 * i for i in range(8)]
    assert made.refused is not None and f": {says}" in made.refused
    assert all(one is other for one, other in zip(seen, given, strict=True))


def test_not_where_cudnn_may_give_other_bits_each_time(recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    called_often(Graphs(CPU))
    assert recorded == []


def test_memory_that_runs_out_takes_the_graphs_first(recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan stays as it is where that is enough."""
    runner, lack = Runner(Plan("cpu", 2, 2, 1, 1)), [True, True]
    tasks = image_tasks(2, 3, 1, 2)

    def work(chunk: Tasks) -> int:
        if lack and lack.pop():
            raise RuntimeError("CUDA error: out of memory")
        return len(chunk)

    forgotten: list[torch.device] = []
    monkeypatch.setattr(engine_runner.beside, "forget", forgotten.append)
    called_often(runner.graphs, USUAL_TIMES)
    lack.pop()
    assert runner.map(work, tasks) == [2] and runner.lowered == []
    lack.append(True)
    assert runner.map(work, tasks) == [1, 1] and len(runner.lowered) == 1
    assert forgotten == [CPU, CPU], "what a second stream holds is given free each time"


def test_memory_that_does_not_suffice_beside_a_recording_ends_the_recording(recorded) -> None:
    """Each chunk of a map is the same work: it is recorded before the last one is computed as usual."""
    runner = Runner(Plan("cpu", 1, 1, 1, 1))
    tasks = image_tasks(USUAL_TIMES + 1, 3, 1, 2)
    computed: list[int] = []

    def work(t: Tensor) -> graphs.Tensors:
        computed.append(1)
        if runner.graphs._recorded:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return (2 * t,)

    def function(chunk: Tasks) -> float:
        return runner.graphs.call("x", work, torch.ones(1))[0].item()

    with pytest.warns(
        RuntimeWarning, match="CUDA graphs cannot be used here for computing.*not enough memory"
    ):
        for _ in range(3):
            assert runner.map(function, tasks) == [2.0] * len(tasks)
    assert runner.lowered == [] and len(recorded) == 2


def test_a_smaller_plan_is_recorded_anew(recorded) -> None:
    made = Graphs(CPU)
    for _ in range(2):
        called_often(made).forget()
    assert len(recorded) == 2


def test_modules_are_not_recorded(recorded) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    learner, tasks = learner_of(module, "pamela"), image_tasks(2, 3, 1, 2)
    learner = learner.to(CPU, tasks.support_x.dtype)
    runner = Runner(Plan("cpu", 2, 2, 1, 1))
    for _ in range(USUAL_TIMES + 2):
        mean_meta_gradient(learner, Classification(3), tasks, runner)
    assert recorded == []


def test_a_cpu_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordedWork, "of", failing)
    made = called_often(Graphs(CPU))
    assert made.refused is None
    monkeypatch.setenv("PAMELA_GRAPHS", "0")
    assert not Graphs(torch.device("cuda", 0)).wanted
    monkeypatch.delenv("PAMELA_GRAPHS")
    assert Graphs(torch.device("cuda", 0)).wanted
