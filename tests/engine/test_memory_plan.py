"""Plans that fit into memory, and runs that go on with less when it runs out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from engine_support import image_tasks, make_learner
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import machine
from pamela_cli.engine import memory_plan
from pamela_cli.engine.backbones import MLP, Conv4
from pamela_cli.engine.evaluation import concatenate, evaluate
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.memory_plan import (
    check_room,
    fit,
    free_bytes,
    graph_bytes,
    least_bytes,
    most_graph_bytes,
)
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.runner import DoesNotFitError, Plan, Runner
from pamela_cli.engine.tasks import Classification, Regression, Tasks
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.methods import METHODS, complete_steps

MIB = 1 << 20

NO_ENGINE = "GET was unable to find an engine to execute this computation"
OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA driver error: out of memory",
    "Triton Error [CUDA]: out of memory",
    NO_ENGINE,
)


def plan(tasks: int = 4, workers: int = 1, kept: int | None = None) -> Plan:
    return Plan("cpu", tasks, tasks, workers, threads=1, kept_updates=kept)


class Hungry(Conv4):
    """A network for which more than so many images at a time are too many."""

    def __init__(self, most: int, word: str = OUT_OF_MEMORY[0]) -> None:
        super().__init__(3, 1, 16, 4)
        self.most, self.word = most, word

    def __call__(self, theta, x, stats=None):
        self._take(x)
        return super().__call__(theta, x, stats)

    def loss_gradient(self, objective, theta, x, y, differentiable):
        self._take(x)
        return super().loss_gradient(objective, theta, x, y, differentiable)

    def _take(self, x) -> None:
        if x.shape[0] * x.shape[1] > self.most:
            raise RuntimeError(self.word)


def test_with_enough_memory_nothing_changes() -> None:
    assert fit(plan(), 5, MIB, MIB, 10**12) == plan()
    assert fit(plan(), 5, MIB, MIB, None) == plan()


def test_the_order_of_what_is_given_up() -> None:
    # A task takes kept·1 + 2·1 MiB; of 100 MiB a plan may take 80.
    def fitted(tasks: int, workers: int, updates: int, free: int = 100 * MIB) -> tuple[int, int, int | None]:
        found = fit(plan(tasks, workers), updates, MIB, MIB, free)
        return found.tasks_at_a_time, found.workers, found.kept_updates

    assert fitted(16, 1, 8) == (8, 1, None)
    assert fitted(1, 1, 98) == (1, 1, 78)
    assert fitted(1, 8, 18) == (1, 8, 8)
    assert fitted(1, 40, 18) == (1, 26, 0)
    assert fitted(4, 4, 5, free=1) == (1, 1, 0)


@given(
    tasks=st.integers(1, 64),
    workers=st.integers(1, 64),
    updates=st.integers(1, 100),
    sizes=st.tuples(st.integers(0, 10**10), st.integers(1, 10**10), st.integers(0, 10**12)),
)
def test_a_plan_never_grows_and_more_memory_never_shrinks_it(tasks, workers, updates, sizes) -> None:
    update, query, free = sizes
    one, more = (fit(plan(tasks, workers), updates, update, query, b) for b in (free, 2 * free))

    def at_work(p: Plan) -> tuple[int, int, int]:
        return p.tasks_at_a_time, updates if p.kept_updates is None else p.kept_updates, p.workers

    assert all(1 <= a <= most for a, most in zip(at_work(one)[::2], (tasks, workers), strict=True))
    assert at_work(one) <= at_work(more)


def test_graphs_are_counted_from_shapes_alone() -> None:
    task = image_tasks(1, 3, 2, 5)
    counts = {}
    for method, w in (("maml", None), ("fomaml", None)):
        learner = make_learner(method, Conv4(3, 1, 16, 4), 3, w)
        counts[method] = graph_bytes(learner, Classification(3), task)
    second, first = counts["maml"], counts["fomaml"]
    assert second[1] == first[1], "the query loss is differentiated once in both"
    # The input of the first pool alone: 6 images of 4 × 16 × 16 numbers of 8 bytes.
    assert second[0] > 6 * 4 * 16 * 16 * 8 > first[0], "of the first order nothing is kept"
    twice = graph_bytes(learner, Classification(3), image_tasks(1, 3, 4, 10))
    assert 1.8 < twice[1] / first[1] < 2.1
    waves = graph_bytes(make_learner("q", MLP((1, 4, 1)), 3), Regression(), sine_task())
    assert 0 < waves[0] == waves[1] < 1000, "support and query are alike here"


@given(
    size=st.integers(16, 40),
    width=st.one_of(st.integers(1, 64), st.sampled_from([256, 1024])),
    way=st.integers(2, 6),
    shot=st.integers(1, 3),
    query=st.integers(1, 4),
    method=st.sampled_from(["maml", "fomaml", "meta-sgd", "pamela"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=20)
def test_graphs_of_images_stay_within_their_bound(size, width, way, shot, query, method, dtype) -> None:
    backbone = Conv4(way, 3, size, width)
    rule = UpdateRule(METHODS[method], backbone.layout, *complete_steps(method, None, None))
    learner = Learner.of_shapes(backbone, rule, 0.01, dtype)
    images = [torch.empty(1, way * each, 3, size, size, dtype=dtype, device="meta") for each in (shot, query)]
    labels = [torch.empty(1, way * each, dtype=torch.int64, device="meta") for each in (shot, query)]
    task = Tasks(images[0], labels[0], images[1], labels[1])
    found = graph_bytes(learner, Classification(way), task)
    bound = most_graph_bytes(learner, backbone.layer_outputs, task)
    assert found[0] <= bound[0] and found[1] <= bound[1] < 3 * found[1]


@given(width=st.integers(1, 100), points=st.integers(1, 100))
@settings(max_examples=20)
def test_graphs_of_waves_stay_within_their_bound(width: int, points: int) -> None:
    backbone = MLP((1, width, width, 1))
    learner = make_learner("q", backbone, 3)
    x = torch.empty(1, points, 1, dtype=learner.theta.dtype, device="meta")
    task = Tasks(x, x, x, x)
    found = graph_bytes(learner, Regression(), task)
    bound = most_graph_bytes(learner, backbone.layer_outputs, task)
    assert all(one <= most < 3 * one for one, most in zip(found, bound, strict=True))


def sine_task() -> Tasks:
    x = torch.zeros(1, 3, 1, dtype=torch.float64)
    return Tasks(x, x, x, x)


def test_this_machine_has_free_memory() -> None:
    free = free_bytes(torch.device("cpu"))
    assert free is None or free > 16 * MIB


def test_memory_that_a_container_grants(tmp_path: Path) -> None:
    """Files that were read take nothing from what is free."""
    assert memory_plan._granted_to(tmp_path, 7) == 7
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    assert memory_plan._granted_to(tmp_path, 5000) == 5000
    (tmp_path / "memory.stat").write_text("anon 100\nfile 800\nactive_file 300\ninactive_file 400\n")
    assert memory_plan._granted_to(tmp_path, 5000) == 800
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_plan._granted_to(tmp_path, 5000) == 5000


def test_memory_that_a_group_above_grants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Slurm does it: the job is limited, and the task within it is not."""
    (tmp_path / "own").write_text("0::/job/task\n")
    monkeypatch.setattr(machine, "_OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path)
    for group, limit in (("job", "1000"), ("job/task", "max")):
        (tmp_path / group).mkdir()
        (tmp_path / group / "memory.max").write_text(limit)
        (tmp_path / group / "memory.current").write_text("300")
        (tmp_path / group / "memory.stat").write_text("active_file 0\ninactive_file 50\n")
    assert free_bytes(torch.device("cpu")) in (750, None)


def test_memory_that_this_process_has_freed_on_a_gpu_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert free_bytes(torch.device("cuda", 0)) == 600


def test_what_no_plan_can_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner("pamela", MLP((1, 40, 40, 1)), 5, 2)
    shapes = Learner.of_shapes(learner.backbone, learner.rule, 0.01, torch.float64)
    assert [t.shape for t in (shapes.theta, shapes.q, shapes.p)] == [
        *(learner.theta.shape, learner.q.shape, learner.p.shape)
    ]
    needed = least_bytes(shapes, sine_task(), 4, query_bytes=400, copies=2)
    numbers = sum(t.numel() for t in (learner.theta, learner.q, learner.p))
    over_theta = 6 + len(learner.q) + len(learner.p)
    assert needed == 8 * (2 * numbers + 4 * 6 + over_theta * learner.theta.numel()) + 60
    monkeypatch.setattr(memory_plan, "free_bytes", lambda device: 1 << 30)
    check_room("these", 1 << 30, torch.device("cpu"))
    with pytest.raises(DoesNotFitError, match=r"these need 2\.0 GiB of memory, but cpu has 1\.0 GiB free"):
        check_room("these", 2 << 30, torch.device("cpu"))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("word", OUT_OF_MEMORY)
def test_training_goes_on_with_less_and_gives_the_same(word: str, workers: int) -> None:
    tasks = image_tasks(4, 3, 1, 2)
    learner = make_learner("pamela", Hungry(10**9), 3, 1)
    expected = mean_meta_gradient(learner, Classification(3), tasks, Runner(plan(4, workers)))
    learner.backbone = Hungry(6, word)  # the query images of one task
    runner = Runner(plan(4, workers))
    found = mean_meta_gradient(learner, Classification(3), tasks, runner)
    assert [p.tasks_at_a_time for p in runner.lowered] == [2, 1]
    assert runner.plan == plan(4, workers).smaller(True).smaller(True)
    for name in ("theta", "q", "p", "loss"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-12)


def test_judging_goes_on_with_less() -> None:
    tasks = image_tasks(4, 3, 1, 2)
    learner = make_learner("pamela", Hungry(most=12), 3, 1)
    runner = Runner(plan(4))
    scores = concatenate(evaluate(learner, Classification(3), [tasks], runner, 3))
    assert scores.final.shape == (4,)
    assert (runner.plan.judged_at_a_time, runner.plan.tasks_at_a_time) == (2, 4)


def test_what_never_fits_is_said_and_other_errors_are_not_hidden() -> None:
    tasks = image_tasks(2, 3, 1, 2)
    for most, word, kind, text in (
        (1, OUT_OF_MEMORY[0], DoesNotFitError, "a single task does not fit"),
        (1, "something else", RuntimeError, "something else"),
        (1, NO_ENGINE, RuntimeError, NO_ENGINE),  # with a single task it is no lack of memory
    ):
        learner = make_learner("q", Hungry(most, word), 2)
        runner = Runner(plan(2, workers=2))
        with pytest.raises(kind, match=text):
            mean_meta_gradient(learner, Classification(3), tasks, runner)
        assert bool(runner.lowered) == (word != "something else")


def test_what_is_given_up_step_by_step() -> None:
    at, seen = plan(4, workers=4), []
    while (smaller := at.smaller(training=True)) is not None:
        seen.append((smaller.tasks_at_a_time, smaller.workers, smaller.kept_updates))
        at = smaller
    assert seen == [(2, 4, None), (1, 4, None), (1, 4, 0), (1, 2, 0), (1, 1, 0)]
