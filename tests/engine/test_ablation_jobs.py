"""Cells at work, without training: how they end, and what becomes of the others."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pamela_cli.ablation import pool, slurm
from pamela_cli.ablation.cells import Cell
from pamela_cli.ablation.grid import Variant
from pamela_cli.ablation.side_by_side import _Following
from pamela_cli.ablation.slurm import submit_jobs
from pamela_cli.ablation.worker import Job, News
from pamela_cli.config import Settings, resolve
from pamela_cli.console import Console
from pamela_cli.signals import StopRequest


def test_a_cell_that_somebody_else_stops_has_failed() -> None:
    failures: dict[Cell, str] = {}
    own = Cell(Variant("q", 5), resolve([Settings({"dataset": "sine", "method": "q"})]))
    job: Any = SimpleNamespace(run=Path("runs/q"))
    bar: Any = SimpleNamespace(update=lambda *_: None)
    stop: Any = []
    following = _Following([own], [job], Console(quiet=True), bar, failures, stop)
    following.hear(0, News("stopped", "stopped by SIGTERM; all is saved."))
    assert failures == {own: "stopped by SIGTERM; all is saved."}
    failures.clear()
    stop.append(signal.SIGTERM)
    following.hear(0, News("stopped", "stopped by SIGTERM; all is saved."))
    assert failures == {}


class _Executor:
    """Jobs that end as they are told: a list of news for each, one for each time that it is submitted."""

    def __init__(self, *ends: list[News]) -> None:
        self._ends = list(ends)
        self._jobs: dict[int, list[News]] = {}

    def batch(self) -> nullcontext[None]:
        return nullcontext()

    def submit(self, task: Any) -> Any:
        if id(task) not in self._jobs:
            self._jobs[id(task)] = self._ends.pop(0)
        news = self._jobs[id(task)].pop(0)
        return SimpleNamespace(done=lambda: True, result=lambda: news, job_id="1")


def test_a_cell_that_slurm_stops_is_submitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "_POLL_SECONDS", 0.0)
    said: list[tuple[int, str]] = []
    stopped, done = News("stopped", "stopped by SIGTERM; all is saved."), News("done")
    jobs = [Job({}, Path("a"), "", None, 1, False, Path(), Path()) for _ in range(2)]
    executor = _Executor([stopped, stopped, done], [done])
    with StopRequest() as stop:
        submit_jobs(jobs, ["cpu"], executor, lambda index, news: said.append((index, news.kind)), stop)
    assert said == [(0, "line"), (1, "done"), (0, "line"), (0, "done")]


def test_an_error_on_the_way_ends_the_cells_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the command would hang at its end until they are trained."""
    running = []

    class Process:
        ended = False

        def terminate(self) -> None:
            self.ended = True

    def start(context: Any, index: int, job: Any) -> Any:
        if running:
            raise OSError("no more processes")
        running.append(pool._Running(index, "cpu", cast(Any, Process()), context.Pipe(duplex=False)[0]))
        return running[0]

    monkeypatch.setattr(pool, "_start", start)
    monkeypatch.setattr(pool, "replace", lambda job, **_: job)
    with StopRequest() as stop, pytest.raises(OSError, match="no more"):
        pool.run_jobs(cast(Any, [None, None]), ["cpu", "cpu"], lambda *_: None, stop)
    assert cast(Any, running[0].process).ended
