"""Training cells side by side, each in a process of its own, with one bar for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from data_prep import Store
from data_prep.machine import available_cores
from pamela_cli.ablation.cells import Cell
from pamela_cli.ablation.pool import run_jobs
from pamela_cli.ablation.slurm import submit_jobs
from pamela_cli.ablation.worker import Job, News
from pamela_cli.config import SINE
from pamela_cli.console import Bar, Console
from pamela_cli.context import Context
from pamela_cli.measures import score_text
from pamela_cli.process_group import devices_of
from pamela_cli.runs import RunFolder
from pamela_cli.signals import StopRequest


def slots_of(device_names: str, jobs: int | None, dataset: str | None) -> list[str]:
    """The device of each of ``jobs`` cells that are trained at a time on devices with commas between.

    By default one on each; of sine waves on the CPU one on each core. Their network is so small that one
    core does what a GPU does, and there are more cores: "auto" is the CPU for them.
    """
    if dataset == SINE and device_names == "auto":
        device_names = "cpu"
    devices = devices_of(device_names)
    if jobs is None:
        # Images use all cores, or a whole GPU; sine waves one core.
        alone = dataset != SINE or devices[0].type != "cpu"
        jobs = len(devices) if alone else available_cores()
    return [str(devices[i % len(devices)]) for i in range(jobs)]


def train_cells(
    context: Context,
    cells: Sequence[Cell],
    names: Sequence[str],
    store: Store | None,
    slots: Sequence[str],
    figures: bool,
    executor: Any = None,
) -> dict[Cell, str]:
    """Train the cells that are not finished, all on one store; returns why some failed.

    ``names`` are those of their runs, for cells that have none yet; ``slots`` the devices of those that are
    trained at a time; ``executor`` submits them to Slurm instead.
    """
    todo = [(cell, name) for cell, name in zip(cells, names, strict=True) if not cell.finished]
    if not todo:
        return {}
    slots = slots[: len(todo)]  # the cores and the memory of those that there is nothing for are shared, too
    sharing = max(Counter(slots).values())
    cores = max(1, available_cores() // (sharing if slots[0] == "cpu" else 1))
    origin = SINE if store is None else str(store.path)
    jobs = [_job(context, cell, name, origin, (cores, sharing), figures) for cell, name in todo]
    console, total = context.console, sum(cell.config.iterations for cell, _ in todo)
    least, most = (bound(cell.config.iterations for cell, _ in todo) for bound in (min, max))
    each = f"{least:,} iterations each" if least == most else f"{least:,} to {most:,} iterations"
    console.say(f"{len(todo)} of {len(cells)} cells to train, {each}, {len(slots)} at a time")
    failures: dict[Cell, str] = {}
    with StopRequest() as stop, console.progress("training", total) as bar:
        following = _Following([cell for cell, _ in todo], jobs, console, bar, failures, stop)
        if executor is None:
            run_jobs(jobs, slots, following.hear, stop)
        else:
            submit_jobs(jobs, slots, executor, following.hear, stop)
        done = len(cells) - len(todo) + following.finished
        stop.check(
            f"{done} of {len(cells)} cells are done and the others saved; run the same "
            "command again to continue"
        )
    return failures


def _job(context: Context, cell: Cell, name: str, origin: str, share: tuple[int, int], figures: bool) -> Job:
    run = cell.folder.path if cell.folder else context.runs_dir / name
    settings = cell.config.values() | {"dataset": origin}
    return Job(settings, run, "", *share, figures, context.data_dir, context.runs_dir)


class _Following:
    """Turns the news of the cells into one bar, and a line for each that ends."""

    def __init__(
        self,
        cells: Sequence[Cell],
        jobs: Sequence[Job],
        console: Console,
        bar: Bar,
        failures: dict[Cell, str],
        stop: StopRequest,
    ) -> None:
        self._cells, self._jobs, self._failures = cells, jobs, failures
        self._console, self._bar, self._stop = console, bar, stop
        self._done = [0] * len(cells)
        self._at_work: dict[int, str] = {}
        self.finished = 0

    def hear(self, index: int, news: News) -> None:
        cell, name = self._cells[index], self._jobs[index].run.name
        if news.kind == "progress":
            self._done[index] = news.done
            self._at_work[index] = f"{cell.variant.label} {100 * news.done // cell.config.iterations} %"
        elif news.kind == "line":
            self._console.say(f"{name}: {news.text}")
        else:
            self._at_work.pop(index, None)
            self._end(cell, index, name, news)
        self._bar.update(sum(self._done), " · ".join(self._at_work.values()))

    def _end(self, cell: Cell, index: int, name: str, news: News) -> None:
        if news.kind == "failed" or (news.kind == "stopped" and not self._stop):  # by somebody else
            self._failures[cell] = news.text
            self._console.say(f"{name} ({cell}) failed: {news.text}")
        elif news.kind == "done":
            self._done[index] = cell.config.iterations
            self.finished += 1
            if summary := RunFolder(self._jobs[index].run).read_summary():
                score, seconds = score_text(summary["test"]), summary["seconds"]
                self._console.say(f"{name} ({cell}): {score}, {seconds:,.0f} s")
