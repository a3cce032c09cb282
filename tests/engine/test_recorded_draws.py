"""Drawing tasks by a graph: the same tasks, by the same operations at every step."""

from __future__ import annotations

import pytest
import torch
from engine_support import sines
from torch import Tensor

from pamela_cli.engine.augmentation import NO_AUGMENTATION, Augmentation
from pamela_cli.engine.episodes import EpisodeSource, ImageEpisodes, ImagePool
from pamela_cli.engine.graphs import USUAL_TIMES, RecordedWork
from pamela_cli.engine.replaying import drawn
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.engine.tasks import Tasks


def images(rotations: bool = False, augmentation: Augmentation = NO_AUGMENTATION) -> ImageEpisodes:
    pixels = torch.arange(60 * 3 * 64).remainder(251).to(torch.uint8).view(60, 3, 8, 8)
    numbers = torch.full((3,), 0.5, dtype=torch.float64)
    pool = ImagePool(pixels, torch.arange(0, 61, 10), numbers, numbers)
    return ImageEpisodes(pool, "train", 4, 2, 3, rotations, augmentation)


def varied() -> ImageEpisodes:
    return images(rotations=True, augmentation=Augmentation(2, True, 0.4, 0.5))


SOURCES = [images, varied, sines]


def parts(tasks: Tasks) -> tuple[Tensor, ...]:
    return tasks.support_x, tasks.support_y, tasks.query_x, tasks.query_y


def assert_same(found: Tasks, expected: Tasks) -> None:
    for one, other in zip(parts(found), parts(expected), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize("step", [0, 1, 59_999, 2**40])
def test_a_step_as_a_tensor_gives_the_same_bits(make, step: int) -> None:
    source = make()
    assert source.recordable
    assert_same(source.draw(2**63 - 1, torch.tensor(step), range(3)), source.draw(2**63 - 1, step, range(3)))


def alone() -> Runner:
    return Runner(Plan("cpu", 2, 2, 1, 1))


@pytest.mark.parametrize("make", SOURCES)
def test_what_is_replayed_is_what_is_drawn(recorded, make) -> None:
    source, runner = make(), alone()
    found = [drawn(runner, source, 5, step, range(1, 4)) for step in range(USUAL_TIMES + 5)]
    assert len(recorded) == 1 and recorded[0].graph.replays >= 5
    for step, tasks in enumerate(found):  # all are compared at the end: none may have been written over
        assert_same(tasks, source.draw(5, step, range(1, 4)))


def test_other_sources_seeds_and_shares_are_told_apart(recorded) -> None:
    runner, sources = alone(), [sines(), sines(shot=7)]
    cases = [
        (source, seed, part) for source in sources for seed in (0, 1) for part in (range(2), range(2, 4))
    ]
    for step in range(USUAL_TIMES + 3):
        for source, seed, share in cases:
            assert_same(drawn(runner, source, seed, step, share), source.draw(seed, step, share))
    assert len(recorded) == len(cases)


class Asking:
    """A source of somebody's own, which looks at the step."""

    def draw(self, seed: int, step: int, indices: range) -> Tasks:
        assert type(step) is int
        return sines().draw(seed, step, indices)


def test_sources_that_cannot_be_recorded_are_asked_each_time(recorded) -> None:
    runner, beside = alone(), images()
    beside.pool = ImagePool(
        beside.pool.images, beside.pool.offsets, *(torch.zeros(3, device="meta") for _ in range(2))
    )
    assert not beside.recordable, "the host fetches its images"
    source: EpisodeSource = Asking()
    for step in range(USUAL_TIMES + 3):
        assert_same(drawn(runner, source, 0, step, range(2)), source.draw(0, step, range(2)))
    assert recorded == []


def asked_for(monkeypatch: pytest.MonkeyPatch, runner: Runner) -> object:
    """The step that a source is told."""
    asked: list[object] = []
    draw = ImageEpisodes.draw
    monkeypatch.setattr(
        ImageEpisodes, "draw", lambda self, seed, step, at: asked.append(step) or draw(self, seed, step, at)
    )
    assert_same(drawn(runner, images(), 0, 3, range(2)), draw(images(), 0, 3, range(2)))
    return asked[0]


def test_without_graphs_the_step_stays_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a part of each address is mixed by Python, which is faster."""
    assert asked_for(monkeypatch, alone()) == 3


def test_the_step_is_a_tensor_only_where_draws_are_recorded(recorded, monkeypatch) -> None:
    runner = alone()
    assert isinstance(asked_for(monkeypatch, runner), Tensor)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    assert asked_for(monkeypatch, runner) == 3, "as in the library, where the caller decides on it"
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    runner.drawing.refused = "why"
    assert asked_for(monkeypatch, runner) == 3


def failing(work: object, inputs: object, place: object) -> None:
    raise RuntimeError("operation not permitted when stream is capturing")


def test_where_tasks_cannot_be_drawn_so_they_are_still_computed_so(recorded, monkeypatch) -> None:
    """And it is said once."""
    runner, source, of = alone(), images(), RecordedWork.of
    monkeypatch.setattr(RecordedWork, "of", failing)
    with pytest.warns(RuntimeWarning, match="cannot be used here for drawing tasks"):
        for step in range(USUAL_TIMES + 2):
            assert_same(drawn(runner, source, 0, step, range(2)), source.draw(0, step, range(2)))
    monkeypatch.setattr(RecordedWork, "of", of)
    for i in range(USUAL_TIMES + 2):
        runner.graphs.call("x", lambda t: (2 * t,), torch.full((1,), 1.0 + i))
    assert len(recorded) == 1 and recorded[0].graph.replays > 0
    (why,) = runner.refusals()
    assert why == (
        "CUDA graphs cannot be used here for drawing tasks, which takes longer: "
        "operation not permitted when stream is capturing"
    )
    assert runner.refusals() == []


def in_use(runner: Runner, source: EpisodeSource) -> Runner:
    """The runner, with a recording of draws and one of something computed."""
    for step in range(USUAL_TIMES + 2):
        drawn(runner, source, 0, step, range(2))
        runner.graphs.call("x", lambda t: (2 * t,), torch.full((1,), 1.0 + step))
    return runner


def test_all_that_is_recorded_can_be_forgotten(recorded) -> None:
    runner = in_use(alone(), images())
    assert len(recorded) == 2
    runner.forget_graphs()
    assert not runner.drawing.forget() and not runner.graphs.forget(), "there is nothing left"


def test_draws_that_run_out_of_memory_are_made_again_without_what_is_recorded(recorded, monkeypatch) -> None:
    source = images()
    runner = in_use(alone(), source)

    def without_memory(inputs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    for each in recorded:
        monkeypatch.setattr(each.graph, "replay", lambda: without_memory(None))
    assert_same(drawn(runner, source, 0, 9, range(2)), source.draw(0, 9, range(2)))
    assert not runner.drawing.forget() and not runner.graphs.forget(), "all was given free"


def test_faults_of_draws_that_are_not_of_memory_are_told(recorded, monkeypatch) -> None:
    source = images()
    runner = in_use(alone(), source)
    monkeypatch.setattr(recorded[0].graph, "replay", lambda: failing(None, None, None))
    with pytest.raises(RuntimeError, match="capturing"):
        drawn(runner, source, 0, 9, range(2))


def test_computing_that_runs_out_of_memory_frees_recorded_draws_first(recorded) -> None:
    """The plan stays as it is where that is enough."""
    runner, source, lack = alone(), images(), [True]
    for step in range(USUAL_TIMES + 2):
        drawn(runner, source, 0, step, range(2))

    def work(chunk: Tasks) -> int:
        if lack and lack.pop():
            raise RuntimeError("CUDA error: out of memory")
        return len(chunk)

    assert runner.map(work, source.draw(0, 0, range(2))) == [2] and runner.lowered == []
    assert not runner.drawing.forget()


def test_a_replay_must_have_the_bits_of_the_draw(recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are what results are compared on; of what is computed, a little may be rounding."""
    runner, source, of = alone(), images(), RecordedWork.of

    def nearly(work: object, inputs: object, place: object) -> RecordedWork:
        made = of(work, inputs, place)
        replay = made.graph.replay

        def replay_nearly() -> None:
            replay()
            made.outputs[0].mul_(1 + 1e-6)

        made.graph.replay = replay_nearly
        return made

    monkeypatch.setattr(RecordedWork, "of", nearly)
    with pytest.warns(RuntimeWarning, match="drawing tasks.*a replay differed by 1e-06"):
        for step in range(USUAL_TIMES + 3):
            assert_same(drawn(runner, source, 0, step, range(2)), source.draw(0, step, range(2)))
