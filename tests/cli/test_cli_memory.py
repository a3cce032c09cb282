"""Memory that runs out during training: less is done at a time, and the result says so."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli_support import QUICK_TINY, assert_same_run, nameless_summary, write_tiny_store

from data_prep import Store
from pamela_cli import planning, training
from pamela_cli.config import Settings, resolve
from pamela_cli.console import Console
from pamela_cli.engine import memory_plan
from pamela_cli.engine.backbones import Conv4
from pamela_cli.engine.processes import Processes
from pamela_cli.engine.runner import Plan
from pamela_cli.errors import PamelaError
from pamela_cli.planning import Share, new_plan, plan_to_judge, same_plan
from pamela_cli.problem import Problem


def test_the_run_goes_on_with_less_and_says_so(
    pamela, quick: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_store(here / "data" / "tiny.h5")
    calls = 0
    network = Conv4.loss_gradient

    def once_too_large(self, *arguments, **options):
        nonlocal calls
        calls += 1
        if calls == 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        return network(self, *arguments, **options)

    monkeypatch.setattr(Conv4, "loss_gradient", once_too_large)
    result = pamela(*QUICK_TINY, "--run", "short", "--json").ok()
    (lowered,) = result.document["lowered"]
    assert lowered["step"] == 1
    assert "step 1: memory ran out; continuing with" in result.err
    plan = tomllib.loads((here / "runs" / "short" / "config.toml").read_text())["plan"]
    assert {key: lowered[key] for key in plan} == plan
    short = nameless_summary(here / "runs" / "short")
    del short["lowered"]
    # On the CPU the plan's workers and the graphs kept leave the bits alone.
    assert short == nameless_summary(quick / "runs" / "tiny")


def test_memory_that_runs_out_in_the_last_test_is_told_too(
    pamela, quick: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_store(here / "data" / "tiny.h5")
    judge, calls = training.judge, 0

    def too_large_once(learner, objective, tasks, runner, *rest, **options):
        nonlocal calls
        calls += 1
        if calls == 4:  # after two validations, and the best learner's
            runner.lowered.append(runner.plan.smaller(training=False))
            runner.plan = runner.lowered[0]
        return judge(learner, objective, tasks, runner, *rest, **options)

    monkeypatch.setattr(training, "judge", too_large_once)
    result = pamela(*QUICK_TINY, "--run", "short", "--json").ok()
    assert [plan["step"] for plan in result.document["lowered"]] == [4]
    assert "step 4: memory ran out; continuing with" in result.err


def test_what_never_fits_ends_in_one_sentence(pamela, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_store(here / "data" / "tiny.h5")

    def too_large(self, objective, theta, x, y, differentiable):
        if x.is_meta:
            return network(self, objective, theta, x, y, differentiable)
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")

    network = Conv4.loss_gradient
    monkeypatch.setattr(Conv4, "loss_gradient", too_large)
    pamela(*QUICK_TINY, "-q").error(1, "a single task does not fit", "lower --way, --shot")


def test_low_memory_gives_the_same_bits(pamela, quick: Path, here: Path) -> None:
    write_tiny_store(here / "data" / "tiny.h5")
    usual = quick / "runs" / "tiny"
    pamela(*QUICK_TINY, "--run", "low", "--low-memory", "-q").ok()
    assert_same_run(here / "runs" / "low", usual)
    plans = [
        tomllib.loads((run / "config.toml").read_text())["plan"] for run in (usual, here / "runs" / "low")
    ]
    assert plans[1] == plans[0] | {"kept_updates": 0, "low_memory": True}
    resumed = pamela("meta-train", "--run", "low", "--resume", "--low-memory")
    resumed.error(2, "leave out --low-memory")


# --- what is known before anything is computed --------------------------------------------------------------

SPLIT = 60 * 16 * 16
MIB = 1 << 20


@pytest.fixture
def problem(here: Path) -> Iterator[Problem]:
    """Each split has 60 images of 256 bytes."""
    path = write_tiny_store(here / "tiny.h5", counts=(20, 20, 20))
    with Store.open(path) as store:
        facts = {"dataset": "tiny", "image_size": 16, "channels": 1, "way": 3, "query": 5, "width": 4}
        yield Problem(resolve([Settings(facts)]), store, torch.device("cpu"))


def free(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    for module in (memory_plan, planning):
        monkeypatch.setattr(module, "free_bytes", lambda device: int(size))


def test_low_memory_goes_along_to_another_device(problem: Problem) -> None:
    plan = new_plan(problem, Processes(), Console(), low_memory=True)
    for elsewhere in (plan, replace(plan, device="cuda:0"), replace(plan, device="cuda:0", processes=2)):
        recorded = {"plan": vars(elsewhere)}
        assert same_plan(recorded, problem, Processes(), Console()) == plan
    short = replace(plan, low_memory=False, device="cuda:0")  # of memory, there
    assert same_plan({"plan": vars(short)}, problem, Processes(), Console()).kept_updates is None


def test_a_run_goes_on_with_as_many_workers_as_there_is_room_for(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "available_cores", lambda: 12)
    plan = replace(new_plan(problem, Processes(), Console()), workers=16, threads=2)
    recorded = {"plan": vars(plan)}
    assert same_plan(recorded, problem, Processes(), Console()) == replace(plan, workers=6)
    assert same_plan(recorded, problem, Processes(), Console(), Share(cores=1)).workers == 1
    least = needed(monkeypatch, lambda: same_plan(recorded, problem, Processes(), Console()))
    free(monkeypatch, least + 1)
    assert same_plan(recorded, problem, Processes(), Console()).workers < 6


def needed(monkeypatch: pytest.MonkeyPatch, plan: Callable[[], object]) -> float:
    """How much free memory is asked for, where there is so little that it is found out."""
    asked: list[float] = []
    with monkeypatch.context() as patch:
        patch.setattr(planning, "free_bytes", lambda device: 1)
        patch.setattr(planning, "check_room", lambda what, size, device, sharing: asked.append(size))
        plan()
    (size,) = asked
    return size


def test_what_cells_share_is_nobodys_alone(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory for one is not enough for eight at a time."""
    least = needed(monkeypatch, lambda: new_plan(problem, Processes(), Console()))
    free(monkeypatch, least + 8)
    new_plan(problem, Processes(), Console())
    with pytest.raises(PamelaError, match="GiB free, which 8 share"):
        new_plan(problem, Processes(), Console(), Share(cells=8))


def test_keeping_no_graphs_leaves_room_for_tasks(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Problem(problem.config, problem.store, torch.device("cuda", 0))
    monkeypatch.setattr(planning, "check_room", lambda *arguments: None)
    counts = {}
    for low_memory in (False, True):
        for room in range(1, 400):
            free(monkeypatch, room * SPLIT)
            plan = new_plan(there, Processes(), Console(), low_memory=low_memory)
            counts[low_memory, room] = plan.tasks_at_a_time
            assert plan.kept_updates == 0 or not low_memory
    assert all(counts[True, room] >= counts[False, room] for room in range(1, 400))
    assert any(counts[True, room] > counts[False, room] for room in range(1, 400))


def test_images_need_room(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    def plan() -> object:
        return new_plan(problem, Processes(), Console())

    with_images = needed(monkeypatch, plan)
    free(monkeypatch, with_images + 1)
    plan()
    free(monkeypatch, with_images - 1)
    with pytest.raises(PamelaError, match="a task, what is learned, and the images need"):
        plan()
    monkeypatch.setattr(Problem, "image_bytes", lambda self, split: 0)
    # Those of training are gone when the last test begins.
    assert with_images - needed(monkeypatch, plan) == 2 * SPLIT


def test_judging_needs_room_for_its_own_tasks_and_images(problem: Problem, monkeypatch) -> None:
    def room(query: int) -> float:
        task = problem.task_shape(query=query)
        return needed(monkeypatch, lambda: plan_to_judge(problem, "test", task, 600))

    few, many = room(5), room(9)
    assert many - few > 3 * 4 * 16 * 16 * 4  # inputs are float32, and the graph of their loss grows, too
    monkeypatch.setattr(Problem, "image_bytes", lambda self, split: 0)
    assert few - room(5) == SPLIT


@pytest.mark.parametrize(("cells", "jobs"), [(1, 1), (2, 2), (8, 8)])
def test_who_has_a_share_of_the_machine_has_that_share_of_the_memory(
    given: list[int], problem: Problem, monkeypatch: pytest.MonkeyPatch, cells: int, jobs: int
) -> None:
    """However many cores there are for each: there may be more cells than cores."""
    free(monkeypatch, 64 * MIB)
    new_plan(problem, Processes(), Console(), Share(cores=1, cells=cells))
    assert set(given) == {64 * MIB // jobs - 2 * SPLIT}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The free memory that each plan is made for."""
    found: list[int] = []
    fit = planning.fit
    monkeypatch.setattr(planning, "fit", lambda *a: found.append(a[-1]) or fit(*a))
    return found


@pytest.mark.parametrize(("room", "placed"), [(400, 2), (3, 2), (2.5, 1), (1.5, 0)])
def test_images_on_a_gpu_are_counted_as_they_will_lie(
    given: list[int], problem: Problem, monkeypatch: pytest.MonkeyPatch, room: float, placed: int
) -> None:
    """Those of validations are loaded first; what takes more than half of the rest stays beside it."""
    there = Problem(problem.config, problem.store, torch.device("cuda", 0))
    monkeypatch.setattr(planning, "check_room", lambda *arguments: None)
    free(monkeypatch, room * SPLIT)
    new_plan(there, Processes(), Console())
    assert set(given) == {int(room * SPLIT) - placed * SPLIT}


def test_fewer_are_judged_at_a_time_where_memory_is_short(problem: Problem, monkeypatch) -> None:
    there = Problem(problem.config, problem.store, torch.device("cuda", 0))
    counts = []
    for size in (400 * MIB, 2 * MIB, MIB):
        free(monkeypatch, size)
        counts.append(plan_to_judge(there, "test", there.task_shape(), 600).judged_at_a_time)
    assert counts[0] == 16 > counts[1] > counts[2] >= 1


def test_a_task_on_each_core_is_judged_where_memory_allows(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pamela_cli.engine.runner.available_cores", lambda: 16)
    training, task = new_plan(problem, Processes(), Console()), problem.task_shape()
    assert (training.workers, training.threads) == (problem.config.meta_batch, 4)

    def plan(count: int) -> Plan:
        return plan_to_judge(problem, "test", task, count)

    assert [(each.workers, each.threads) for each in map(plan, (600, 8, 1))] == [(16, 1), (8, 2), (1, 16)]
    least = needed(monkeypatch, lambda: plan(600))
    free(monkeypatch, least + 1)
    assert plan(600).workers < 16
    free(monkeypatch, 20 * least)
    alone = plan(600).workers
    assert 1 < alone < 16
    # As one of two processes, with half of the memory each.
    monkeypatch.setattr(planning, "neighbours", lambda: 2)
    assert plan(600).workers < alone


def test_judging_needs_room_for_large_support_sets(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pamela_cli.engine.runner.available_cores", lambda: 16)
    given: list[tuple[int, ...]] = []
    fit = planning.fit_to_judge
    monkeypatch.setattr(planning, "fit_to_judge", lambda plan, *a: given.append(a) or fit(plan, *a))
    task = problem.task_shape(shot=10, query=1)
    plan_to_judge(problem, "test", task, 600)
    update_bytes, query_bytes, _ = given[-1]
    assert update_bytes > 5 * query_bytes
    enough = int(16 * update_bytes / memory_plan.USED_SHARE) + 3 * SPLIT
    free(monkeypatch, enough)
    assert plan_to_judge(problem, "test", task, 600).workers == 16
    free(monkeypatch, enough // 2)
    assert plan_to_judge(problem, "test", task, 600).workers < 16
