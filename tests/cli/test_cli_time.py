"""The time that training takes, as a run tells it: that of its steps, and of nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_support import Result

from pamela_cli import stopwatch, training
from pamela_cli.engine.outer_loop import OuterLoop
from pamela_cli.stopwatch import Stopwatch

SINE = ("meta-train", "--dataset", "sine", "--shot", "5", "--width", "4", "--run", "timed", "--json")
STEPS = ("--iterations", "30", "--meta-batch", "4", "--val-tasks", "2", "--test-tasks", "2")


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A step takes two seconds, judging a thousand."""
    clock, run, judge = Clock(), OuterLoop.run, training.judge

    def steps(self: OuterLoop, source: object) -> Iterator[object]:
        for metrics in run(self, source):
            clock.now += 2
            yield metrics

    def slow(*arguments: object, **options: object) -> object:
        clock.now += 1000
        return judge(*arguments, **options)

    monkeypatch.setattr(stopwatch, "time", clock)
    monkeypatch.setattr(OuterLoop, "run", steps)
    monkeypatch.setattr(training, "judge", slow)
    return clock


def rates(here: Path) -> list[float]:
    lines = (here / "runs" / "timed" / "metrics.jsonl").read_text().splitlines()
    return [line["tasks_per_second"] for line in map(json.loads, lines) if "tasks_per_second" in line]


def assert_right(result: Result, here: Path) -> None:
    summary = result.ok().document
    assert (summary["seconds"], summary["tasks_per_second"]) == (60, 2)
    assert rates(here) == [2, 2, 2]


@pytest.mark.parametrize("every", [1, 7, 1000])
def test_validations_are_no_part_of_it(every: int, pamela, here: Path, clock: Clock) -> None:
    assert_right(pamela(*SINE, *STEPS, "--val-every", every, "--no-figures"), here)


def test_it_is_counted_over_a_resumption(pamela, here: Path, clock: Clock, monkeypatch) -> None:
    save_when_due = training.Training._save_when_due

    def broken_off(self: training.Training) -> None:
        save_when_due(self)
        if self.loop.step == 17:
            self._save()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "_save_when_due", broken_off)
        assert pamela(*SINE, *STEPS, "--val-every", 10).code != 0
    clock.now += 5000
    assert_right(pamela("meta-train", "--run", "timed", "--resume", "--json", "--no-figures"), here)


def test_a_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, watch = Clock(), Stopwatch()
    monkeypatch.setattr(stopwatch, "time", clock)

    def passes(seconds: float) -> Callable[[], float]:
        clock.now += seconds
        return watch.take

    assert passes(3)() == 0
    watch.start()
    assert passes(2)() == 2
    assert passes(1)() == 1
    with watch.paused():
        assert passes(5)() == 0
    clock.now += 4
    watch.stop()
    assert passes(7)() == 4
    with watch.paused():
        pass
    assert passes(1)() == 0
