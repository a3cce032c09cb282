"""Training one cell, in a process of its own: a cell that fails, or is killed, does not affect the others."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from pamela_cli.config import Settings
from pamela_cli.console import Bar, Console, mute_library_warnings
from pamela_cli.engine.memory import keep_freed_memory
from pamela_cli.errors import PamelaError, Stopped
from pamela_cli.signals import STOPPING

NEWS_INTERVAL = 0.5
"""Seconds between two messages of a cell's progress."""


@dataclass(frozen=True)
class Job:
    """What it takes to train a cell, picklable: its settings, and its run, which goes on if it is there.

    It is one of ``cells`` that share a device at a time, and may use ``cores`` of the CPU (None: all).
    """

    values: dict[str, Any]
    run: Path
    device: str
    cores: int | None
    cells: int
    figures: bool
    data_dir: Path
    runs_dir: Path


class News(NamedTuple):
    """What a cell tells: its progress (outer steps ``done``), a line, or its end."""

    kind: Literal["progress", "line", "done", "failed", "stopped"]
    text: str = ""
    done: int = 0


class Listener(Protocol):
    """Where news go: the end of a pipe."""

    def send(self, news: News) -> None:
        """Pass them on."""


class CellConsole(Console):
    """A console whose messages reach the ablation's user through a :class:`Listener`."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(quiet=True)
        self._listener = listener

    def warn(self, text: str) -> None:
        """A line for the ablation's user."""
        self._listener.send(News("line", text))

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Bar]:
        """Pass on the progress of training, and of nothing else."""
        yield _Forwarding(self._listener, what)


class _Forwarding:
    def __init__(self, listener: Listener, what: str) -> None:
        self._listener, self._what = listener, what
        self._told = 0.0

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        now = time.monotonic()
        if self._what == "training" and now - self._told > NEWS_INTERVAL:
            self._told = now
            self._listener.send(News("progress", done=done))


def work(job: Job, listener: Listener) -> None:
    """Train a cell and tell how it ended, as the target of a process."""
    # Ctrl-C reaches every process of a terminal's group: this one is to hear of it once, from the parent.
    if hasattr(os, "setpgrp"):
        os.setpgrp()
        # They are blocked in the process that it was forked from. A pending Ctrl-C is meant for the parent.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        signal.signal(signal.SIGINT, before)
    if job.device == "cpu":
        keep_freed_memory()  # before there is a second thread
    _end_with_parent()
    listener.send(train_cell(job, listener))


def train_cell(job: Job, listener: Listener) -> News:
    """Train a cell to its end, from its last checkpoint where there is one; returns how it ended."""
    from data_prep import DataError
    from pamela_cli import session
    from pamela_cli.context import Context
    from pamela_cli.planning import Share

    mute_library_warnings()
    share = Share(job.cores, job.cells)
    context = Context(
        CellConsole(listener), job.data_dir, job.runs_dir, Settings(job.values, "this ablation")
    )
    try:
        if job.run.exists():
            session.resume(context, str(job.run), job.device, share, job.figures)
        else:
            session.train(context, str(job.run), None, job.device, share, job.figures)
    except Stopped as stop:
        return News("stopped", str(stop))
    except (PamelaError, DataError) as error:
        return News("failed", str(error))
    except Exception as error:
        return News("failed", f"unexpected {type(error).__name__}: {error}")
    return News("done")


def _end_with_parent() -> None:
    """Die at once when the parent does: nobody else may go on with a run that is still being trained."""
    parent = parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()
