"""Processes that train cells side by side: as many at a time as there are slots, each on its device."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from pamela_cli.ablation.worker import Job, News, work
from pamela_cli.errors import PamelaError
from pamela_cli.signals import STOPPING, StopRequest

OnNews = Callable[[int, News], None]
"""Hears the index of a job and what it tells."""

_POLL_SECONDS = 0.2

_PRELOAD = [
    "pamela_cli.session",
    "pamela_cli.display.trends",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
]


@dataclass
class _Running:
    index: int
    device: str
    process: BaseProcess
    pipe: Connection
    end: News | None = None


def run_jobs(jobs: Sequence[Job], devices: Sequence[str], on_news: OnNews, stop: StopRequest) -> None:
    """Work through the jobs in order, one at a time on each of the ``devices`` (slots; names may repeat).

    ``on_news`` hears each job's end, too. After a request to stop, no further job is started, those at
    work save and end, and all are waited for.
    """
    start = _context()
    waiting = deque(enumerate(jobs))
    free = deque(devices)
    running: list[_Running] = []
    asked = False
    try:
        while waiting or running:
            if stop and not asked:
                asked = True
                waiting.clear()
                for one in running:
                    one.process.terminate()
            while waiting and free:
                index, job = waiting.popleft()
                running.append(_start(start, index, replace(job, device=free.popleft())))
            ready = wait([one.pipe for one in running], _POLL_SECONDS)
            for one in [one for one in running if one.pipe in ready]:
                if not _hear(one, on_news):
                    running.remove(one)
                    free.append(one.device)
                    on_news(one.index, one.end or _died(one.process, asked))
    finally:
        # After an error here nobody waits for them: they save and end.
        for one in running:
            one.process.terminate()


def _context() -> Any:
    """Where processes come from: forked from one that has imported everything, or else started afresh."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    # Ctrl-C reaches every process of a terminal's group, and what imports for seconds would die of it. (The
    # tracker is started first, since it lifts the block.)
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _start(context: Any, index: int, job: Job) -> _Running:
    own, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(job, theirs), name=job.run.name)
    try:
        process.start()
    except (EOFError, OSError) as error:
        raise PamelaError(
            "the process that starts the cells has ended (out of memory?); run the same "
            "command again to continue."
        ) from error
    theirs.close()  # the last end is the process's: when it dies, the pipe says so
    return _Running(index, job.device, process, own)


def _hear(one: _Running, on_news: OnNews) -> bool:
    """Take in what a process has sent; False when it has ended."""
    try:
        while one.pipe.poll():
            news = one.pipe.recv()
            if news.kind in ("done", "failed", "stopped"):
                one.end = news
            else:
                on_news(one.index, news)
    except (EOFError, OSError):
        one.process.join()
        one.pipe.close()
        return False
    return True


def _died(process: BaseProcess, asked: bool) -> News:
    """The end of a process that could not report it."""
    code = process.exitcode or 0
    if asked:
        return News("stopped", "")
    if code < 0:
        name = signal.Signals(-code).name
        reason = f"its process was ended by {name}" + (": out of memory?" if name == "SIGKILL" else "")
        return News("failed", reason)
    return News("failed", f"its process ended with exit code {code}")
