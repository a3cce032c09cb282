"""The planned results: training what is missing, keeping what is finished, and their page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from data_prep import Store
from data_prep.errors import DataError
from pamela_cli.ablation.cells import Cell, all_runs, preferred, run_with, runs_of
from pamela_cli.ablation.grid import Variant
from pamela_cli.ablation.side_by_side import slots_of, train_cells
from pamela_cli.checkpoints import divergence_of
from pamela_cli.config import Config
from pamela_cli.console import Console
from pamela_cli.context import Context
from pamela_cli.errors import PamelaError, Stopped
from pamela_cli.measures import measure_in
from pamela_cli.problem import Problem
from pamela_cli.reproducing.kept import (
    as_planned,
    keep,
    keep_divergence,
    keep_evaluations,
    kept_divergence,
    kept_result,
)
from pamela_cli.reproducing.page import check_page, write_page
from pamela_cli.reproducing.plan import PlannedCell, in_order, read_plan
from pamela_cli.runs import numbered
from pamela_cli.settling import settle
from pamela_cli.signals import stopped_by


@dataclass(frozen=True)
class ReproduceOptions:
    """Which groups (none: all), where results are, and how cells are trained; ``train`` off trains none."""

    groups: Sequence[str]
    results: Path
    train: bool = True
    jobs: int | None = None
    devices: str = "auto"


@dataclass(frozen=True)
class _Found:
    """A planned cell whose dataset or run is there, as a cell with the run that it is.

    ``problem`` is None without the dataset.
    """

    planned: PlannedCell
    problem: Problem | None
    cell: Cell

    def refreshed(self, runs: Iterable[tuple[Config, Any]]) -> _Found:
        return replace(self, cell=replace(self.cell, folder=run_with(self.cell.config, runs)))


def reproduce(context: Context, options: ReproduceOptions) -> dict[str, Any]:
    """Train the cells that are neither kept nor finished, keep what is, and write the page of all."""
    planned = in_order(read_plan(options.groups))
    check_page(options.results)
    missing = [cell for cell in planned if not _is_kept(cell, options.results)]
    failures: dict[str, str] = {}
    absent: dict[str, str] = {}
    there: list[_Found] = []
    runs = all_runs(context.runs_dir)
    for each in missing:
        found = _found(context, each, runs) if options.train else _collected(context, each, runs)
        if isinstance(found, str):
            absent[each.name] = found
        else:
            there.append(found)
    if absent:
        datasets = Counter(each.dataset for each in missing if each.name in absent)
        told = ", ".join(f"{dataset} ({count})" for dataset, count in datasets.items())
        context.console.warn(
            f"no data for {len(absent)} cells, which are left out: {told}; prepare the data "
            "with `pamela prepare NAME`."
        )
    try:
        for _, cells in groupby(there, key=lambda found: found.planned.dataset):
            failures |= _have(context, options, list(cells))
    finally:  # also after a request to stop: what is finished is not lost
        _keep_evaluations(context, planned, options.results)
        page = write_page(options.results, read_plan()) if _is_anything(options.results) else None
    return {
        "page": page and str(page),
        "cells": [_status(c, options.results, failures, absent) for c in planned],
    }


def check(context: Context, options: ReproduceOptions) -> dict[str, Any]:
    """Train every cell for two outer steps, and keep nothing: does all of it run here?"""
    cells = in_order(read_plan(options.groups))
    statuses: list[dict[str, Any]] = []
    with TemporaryDirectory() as elsewhere, context.console.progress("checking", len(cells)) as bar:
        there = replace(context, runs_dir=Path(elsewhere))
        for done, planned in enumerate(cells):
            bar.update(done, planned.name)
            found = _found(there, planned, [])
            if isinstance(found, str):
                statuses.append({"cell": planned.name, "status": "no data", "why": found})
                continue
            config = replace(found.cell.config, iterations=2, val_every=2, val_tasks=2, test_tasks=2)
            cell = replace(found.cell, config=config)
            slots = slots_of(options.devices, 1, planned.dataset)
            quiet = replace(there, console=Console(quiet=True))
            try:
                failed = train_cells(quiet, [cell], [planned.name], _store(found), slots, figures=False)
            except Stopped as error:
                said = f"{done} of {len(cells)} cells were checked; nothing is kept"
                raise stopped_by(error.exit_code - 128, said) from error
            why = failed.get(cell)
            statuses.append({"cell": planned.name, "status": "failed" if why else "runs", "why": why})
    return {"page": None, "cells": statuses}


def _have(context: Context, options: ReproduceOptions, cells: list[_Found]) -> dict[str, str]:
    """Train and keep cells of one dataset; returns why some failed."""
    failed: dict[Cell, str] = {}
    lost: dict[str, str] = {}
    try:
        if options.train:
            slots = slots_of(options.devices, options.jobs, cells[0].planned.dataset)
            names = _free_names(context.runs_dir, [found.planned for found in cells])
            own = [found.cell for found in cells]
            failed = train_cells(context, own, names, _store(cells[0]), slots, figures=False)
    finally:
        runs = all_runs(context.runs_dir)
        for found in (each.refreshed(runs) for each in cells):
            if found.cell.folder is not None:
                try:
                    _keep(found, options.results / found.planned.name)
                except (PamelaError, OSError) as error:  # of one run; the others are kept
                    lost[found.planned.name] = str(error)
                    context.console.warn(f"{found.planned.name} cannot be kept: {error}")
    return {found.planned.name: failed[found.cell] for found in cells if found.cell in failed} | lost


def _keep(found: _Found, out: Path) -> None:
    """Keep the cell's result, or that it diverged, if its run has come to either."""
    run = found.cell.folder
    assert run is not None
    if found.cell.finished:
        keep(run, out)
    elif why := divergence_of(run):
        keep_divergence(run, why, out)


def _keep_evaluations(context: Context, planned: Iterable[PlannedCell], results: Path) -> None:
    """Keep what `evaluate` has found of the runs whose results are kept; a failure costs that alone."""
    runs = all_runs(context.runs_dir)
    for cell in planned:
        kept = kept_result(cell, results)
        for run in runs_of(kept.config, runs) if kept else ():
            try:
                keep_evaluations(run, results / cell.name)
            except (PamelaError, OSError) as error:
                context.console.warn(f"what was found of {run.path} cannot be kept: {error}")


def _is_anything(results: Path) -> bool:
    """Whether there is a page already, or anything to be on one."""
    there = (results / "README.md").exists()
    return there or any(_is_kept(cell, results) for group in read_plan() for cell in group.cells)


def _is_kept(planned: PlannedCell, results: Path) -> bool:
    return kept_result(planned, results) is not None or kept_divergence(planned, results) is not None


def _found(context: Context, planned: PlannedCell, runs: Iterable[tuple[Config, Any]]) -> _Found | str:
    """The cell, or why it cannot be trained here."""
    try:
        problem = settle(context, [planned.layer], torch.device("cpu"))
    except (PamelaError, DataError) as error:
        return str(error)
    cell = Cell(Variant.of(problem.config), problem.config, run_with(problem.config, runs))
    return _Found(planned, problem, cell)


def _store(found: _Found) -> Store | None:
    """The dataset of a cell that is to be trained."""
    assert found.problem is not None
    return found.problem.store


def _collected(context: Context, planned: PlannedCell, runs: Iterable[tuple[Config, Any]]) -> _Found | str:
    """The cell, also where its dataset is elsewhere: a run was brought here without it."""
    found = _found(context, planned, runs)
    if isinstance(found, str):
        own = ((config, run) for config, run in runs if config.dataset == planned.dataset)
        folder = preferred(run for config, run in own if as_planned(config, planned))
        if folder is not None:
            config, _ = folder.read_config()
            return _Found(planned, None, Cell(Variant.of(config), config, folder))
    return found


def _free_names(runs_dir: Path, planned: Sequence[PlannedCell]) -> list[str]:
    """What to call the runs of cells that have none."""
    tried = (numbered(cell.name.replace("/", "-")) for cell in planned)
    return [next(name for name in names if not (runs_dir / name).exists()) for names in tried]


def _status(
    planned: PlannedCell, results: Path, failures: dict[str, str], absent: dict[str, str]
) -> dict[str, Any]:
    kept = kept_result(planned, results)
    if kept is None:
        if why := kept_divergence(planned, results):
            return {"cell": planned.name, "status": "diverged", "why": why}
        for status, reasons in (("failed", failures), ("no data", absent)):
            if planned.name in reasons:
                return {"cell": planned.name, "status": status, "why": reasons[planned.name]}
        return {"cell": planned.name, "status": "not run", "why": None}
    test = kept.summary["test"]
    score = {key: test[key] for key in (measure_in(test).name, "ci95")}
    return {"cell": planned.name, "status": "done", "why": None, **score}


def listing(options: ReproduceOptions) -> dict[str, Any]:
    """What is kept, and what is not, without training or writing anything."""
    cells = in_order(read_plan(options.groups))
    return {"page": None, "cells": [_status(cell, options.results, {}, {}) for cell in cells]}
