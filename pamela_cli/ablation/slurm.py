"""Cells as a Slurm array, by submitit: the extra `slurm`."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_prep.errors import first_line
from pamela_cli.ablation.pool import OnNews
from pamela_cli.ablation.worker import Job, News, train_cell
from pamela_cli.errors import PamelaError, UsageError
from pamela_cli.signals import StopRequest

_POLL_SECONDS = 1.0
_LONGEST_SAVING = 60.0  # Slurm itself kills a job after 30 s by default


class CellTask:
    """A cell as submitit runs it; one that Slurm preempts is submitted again and goes on."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self) -> News:
        """Train it; nobody hears of its progress."""
        return train_cell(self.job, self)

    def send(self, news: News) -> None:
        """Write to the job's log what a cell would tell."""
        if news.kind == "line":
            print(news.text, flush=True)

    def checkpoint(self) -> Any:
        """What to submit after a preemption: the same, since a run goes on from its last checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(CellTask(self.job))


def parse_parameters(text: str) -> dict[str, Any]:
    """submitit's parameters in ``timeout_min=240,slurm_partition=gpu``; UsageError if they are none."""
    parameters: dict[str, Any] = {}
    for part in text.split(","):
        key, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or not key.isidentifier() or not value:
            raise UsageError(f"--slurm must look like timeout_min=240,slurm_partition=gpu, not '{text}'.")
        parameters[key] = int(value) if re.fullmatch("[0-9]{1,18}", value) else value
    return parameters


def open_executor(parameters: dict[str, Any], logs: Path, at_a_time: int) -> Any:
    """submitit's executor for Slurm, or for another ``cluster`` among the parameters (local, debug)."""
    try:
        import submitit
    except ImportError as error:
        raise UsageError("--slurm needs submitit: `pip install submitit`.") from error
    usual = {"timeout_min": 24 * 60, "slurm_array_parallelism": at_a_time}
    given = usual | {key: value for key, value in parameters.items() if key != "cluster"}
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=parameters.get("cluster", "slurm"))
        executor.update_parameters(**given)
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise UsageError(f"--slurm: {first_line(error)}.") from error
    return executor


def submit_jobs(
    jobs: Sequence[Job], slots: Sequence[str], executor: Any, on_news: OnNews, stop: StopRequest
) -> None:
    """Submit the jobs as one array to a submitit executor, and wait for all of them.

    One that ends by a signal that was not asked for here, as where Slurm preempts it by SIGTERM, is submitted
    again. A request to stop cancels what is left, and waits until that has saved and ended.
    """
    # A job has the cores that Slurm gives it, and no others.
    tasks = [
        CellTask(replace(job, device=slots[i % len(slots)], cores=None, cells=1))
        for i, job in enumerate(jobs)
    ]
    with executor.batch():
        submitted = [executor.submit(task) for task in tasks]
    left = dict(enumerate(submitted))
    while left:
        for index, one in list(left.items()):
            if one.done():
                del left[index]
                news = _end(one)
                if news.kind == "stopped" and not stop:
                    on_news(index, News("line", f"{news.text} It is submitted again."))
                    left[index] = executor.submit(tasks[index])
                else:
                    on_news(index, news)
        if stop:
            _cancel(list(left.values()))
            return
        time.sleep(_POLL_SECONDS)


def _cancel(jobs: Sequence[Any]) -> None:
    """Tell jobs to save and end, and wait for them: nobody else may go on with their runs meanwhile."""
    for one in jobs:
        one.cancel()
    until = time.monotonic() + _LONGEST_SAVING
    while not all(one.done() for one in jobs) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)


def _end(one: Any) -> News:
    """How a submitted cell ended; one that ended abnormally is marked, and says where its log is."""
    try:
        news = one.result()
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1]
        return News("failed", f"its job {one.job_id} ended abnormally ({reason}); see {one.paths.stderr}")
    if not isinstance(news, News):
        raise PamelaError(f"the job {one.job_id} returned an unexpected result; see {one.paths.stderr}.")
    return news
