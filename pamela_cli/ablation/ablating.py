"""Carrying out an ablation: which cells are missing, training them, and comparing all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from data_prep import Store
from pamela_cli.ablation.cells import Cell, all_runs, earlier_cells, free_names, make_cells
from pamela_cli.ablation.grid import MOST_STEPS, Variant, grid
from pamela_cli.ablation.outcome import Row, document, make_rows
from pamela_cli.ablation.pool import run_jobs
from pamela_cli.ablation.slurm import open_executor, submit_jobs
from pamela_cli.ablation.worker import Job, News
from pamela_cli.cli import Context
from pamela_cli.company import device_of
from pamela_cli.config import SINE, Config, Layer, read_config_file
from pamela_cli.console import Bar
from pamela_cli.engine.runner import available_cores
from pamela_cli.errors import UsageError
from pamela_cli.methods import METHODS
from pamela_cli.problem import Problem
from pamela_cli.results import score_text
from pamela_cli.runs import RunFolder
from pamela_cli.session import settle
from pamela_cli.signals import StopRequest


@dataclass(frozen=True)
class Wanted:
    """What to ablate. ``seeds`` None: 0, or with ``train`` off all that are there.

    ``table`` adds the cells that were finished earlier; ``train`` off trains nothing. ``jobs`` cells at a
    time (None: by the device) on ``devices``, which may be several with commas between; ``slurm``
    parameters submit them to Slurm instead.
    """

    vary: str = "variant"
    seeds: list[int] | None = None
    table: bool = False
    train: bool = True
    jobs: int | None = None
    devices: str = "auto"
    slurm: dict[str, Any] | None = None
    figures: bool = True


@dataclass(frozen=True)
class Ablation:
    """The rows of an ablation, with the settings that they share.

    ``by_shot`` has the finished rows of the same settings, but for the shot, where there are several.
    """

    base: Config
    store: Store | None
    rows: list[Row]
    document: dict[str, Any]
    folder: Path
    by_shot: dict[int, list[Row]]

    @property
    def failed(self) -> list[Row]:
        """The rows with a cell that failed."""
        return [row for row in self.rows if row.status == "failed"]


def ablate(context: Context, wanted: Wanted, config_file: Path | None) -> Ablation:
    """Train the cells that are missing and compare them; :class:`Stopped` after a signal, all saved."""
    slots = _slots(wanted, context.flags.values.get("dataset"))
    executor = None
    if wanted.slurm is not None:
        executor = open_executor(wanted.slurm, context.runs_dir / "slurm", len(slots))
    problem = _problem(context, config_file)
    base, store = problem.config, problem.store
    variants = _variants(wanted, base, context.flags)
    if wanted.vary == "steps":
        base = replace(base, steps=METHODS["maml"].default_steps)
    seeds = wanted.seeds or [0]
    failures: dict[Cell, str] = {}
    if wanted.train:
        cells = make_cells(variants, seeds, base, all_runs(context.runs_dir))
        failures = _train(context, wanted, cells, problem, slots, executor)
    runs = all_runs(context.runs_dir)
    cells = make_cells(variants, seeds, base, runs) if wanted.train else []
    if wanted.table:
        own = {(cell.variant, cell.seed, cell.config.iterations) for cell in cells}
        earlier = earlier_cells(base, wanted.seeds if not wanted.train else seeds, runs, not wanted.train)
        cells += [c for c in earlier if (c.variant, c.seed, c.config.iterations) not in own]
    if not cells:
        raise UsageError(
            f"nothing to show: {context.runs_dir} has no finished runs with these settings, and "
            "--iterations 0 trains none; leave it out."
        )
    rows = make_rows(variants if wanted.train else [], cells, failures, base)
    folder = context.runs_dir / _folder_name(base, wanted.vary)
    table = document(rows, base, wanted.seeds or (seeds if wanted.train else None))
    return Ablation(base, store, rows, table, folder, _by_shot(base, rows, runs))


def _problem(context: Context, config_file: Path | None) -> Problem:
    """The problem of MAML, whose settings all cells share."""
    layers = [_shared(read_config_file(config_file))] if config_file else []
    layers += [_shared(context.flags), Layer({"method": "maml"})]
    return settle(context, layers, torch.device("cpu"), "ablation")


def _shared(layer: Layer) -> Layer:
    """The settings of a layer but those that an ablation sets in every cell."""
    own = {"method", "skip_interval", "seed"}
    if METHODS[layer.values.get("method", "maml")].default_steps == 1:
        own.add("steps")
    return Layer({key: value for key, value in layer.values.items() if key not in own}, layer.origin)


def _variants(wanted: Wanted, base: Config, flags: Layer) -> list[Variant]:
    w = flags.values.get("skip_interval")
    if w is not None and wanted.vary != "steps":
        raise UsageError(
            f"--skip-interval is what --vary {wanted.vary} varies; it goes with --vary steps alone."
        )
    steps = base.steps or 0
    if wanted.vary == "steps":
        steps = flags.values.get("steps") or MOST_STEPS
    return grid(wanted.vary, steps, w or 2)


def _by_shot(base: Config, rows: list[Row], runs: list[tuple[Config, RunFolder]]) -> dict[int, list[Row]]:
    """The rows of this ablation, and those of its variants that were finished with other shots."""
    variants = [row.variant for row in rows]
    found = {}
    for shot in sorted({config.shot for config, _ in runs}):
        other = replace(base, shot=shot, iterations=max(row.iterations for row in rows))
        cells = [c for c in earlier_cells(other, None, runs, any_budget=False) if c.variant in variants]
        if cells:
            found[shot] = make_rows([], cells, {}, other)
    return found if len(found) > 1 else {}


def _folder_name(base: Config, vary: str) -> str:
    way = f"{base.way}w" if base.way else ""
    axis = "" if vary == "variant" else f"-{vary}"
    return f"ablation-{base.dataset}-{way}{base.shot}s{axis}"


def _train(
    context: Context,
    wanted: Wanted,
    cells: Sequence[Cell],
    problem: Problem,
    slots: Sequence[str],
    executor: Any,
) -> dict[Cell, str]:
    """Train the cells that are not finished; returns why some failed."""
    todo = [cell for cell in cells if not cell.finished]
    if not todo:
        return {}
    sharing = len(slots) if slots[0] == "cpu" else 1
    origin = SINE if problem.store is None else str(problem.store.path)
    jobs = _jobs(context, todo, origin, max(1, available_cores() // sharing), wanted.figures)
    console = context.console
    console.say(
        f"{len(todo)} of {len(cells)} cells to train, {todo[0].config.iterations:,} iterations each, "
        f"{len(slots)} at a time"
    )
    total = sum(cell.config.iterations for cell in todo)
    failures: dict[Cell, str] = {}
    with StopRequest() as stop, console.progress("ablating", total) as bar:
        following = _Following(todo, jobs, bar, failures)
        if executor is None:
            run_jobs(jobs, slots, following.hear, stop)
        else:
            submit_jobs(jobs, slots, executor, following.hear, stop)
        done = len(cells) - len(todo) + following.finished
        stop.check(f"{done} of {len(cells)} cells are done and the others saved; the same command goes on")
    return failures


def _slots(wanted: Wanted, dataset: str | None) -> list[str]:
    """The device of each cell that is trained at a time."""
    names = wanted.devices.split(",")
    if wanted.slurm is not None:
        # Which devices there are is for the nodes to say.
        return [names[i % len(names)] for i in range(wanted.jobs or len(names))]
    devices = [device_of(name) for name in names]
    count = wanted.jobs
    if count is None:
        # Images use all cores, or a whole GPU; sine waves one core.
        alone = dataset != SINE or devices[0].type != "cpu"
        count = len(devices) if alone else available_cores()
    return [str(devices[i % len(devices)]) for i in range(count)]


def _jobs(context: Context, cells: Sequence[Cell], origin: str, cores: int, figures: bool) -> list[Job]:
    names = free_names([cell for cell in cells if cell.folder is None], context.runs_dir)
    jobs = []
    for cell in cells:
        run = cell.folder.path if cell.folder else context.runs_dir / next(names)
        settings = cell.config.values() | {"dataset": origin}
        jobs.append(Job(settings, run, "", cores, figures, context.data_dir, context.runs_dir))
    return jobs


class _Following:
    """Turns the news of the cells into one bar, and a line for each that ends."""

    def __init__(
        self, cells: Sequence[Cell], jobs: Sequence[Job], bar: Bar, failures: dict[Cell, str]
    ) -> None:
        self._cells, self._jobs, self._bar, self._failures = cells, jobs, bar, failures
        self._done = [0] * len(cells)
        self._at_work: dict[int, str] = {}
        self.finished = 0

    def hear(self, index: int, news: News) -> None:
        cell, name = self._cells[index], self._jobs[index].run.name
        if news.kind == "progress":
            self._done[index] = news.done
            self._at_work[index] = f"{cell.variant.label} {100 * news.done // cell.config.iterations} %"
        elif news.kind == "line":
            self._bar.line(f"{name}: {news.text}")
        else:
            self._at_work.pop(index, None)
            self._end(cell, index, name, news)
        self._bar.update(sum(self._done), " · ".join(self._at_work.values()))

    def _end(self, cell: Cell, index: int, name: str, news: News) -> None:
        if news.kind == "failed":
            self._failures[cell] = news.text
            self._bar.line(f"{name} ({cell}) failed: {news.text}")
        elif news.kind == "done":
            self._done[index] = cell.config.iterations
            self.finished += 1
            summary = RunFolder(self._jobs[index].run).read_summary() or {}
            self._bar.line(f"{name} ({cell}): {score_text(summary['test'])}, {summary['seconds']:,.0f} s")
