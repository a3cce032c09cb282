"""Carrying out an ablation: find the missing cells, train them, and compare them all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from data_prep import Store
from pamela_cli.ablation.cells import (
    Cell,
    alike,
    all_runs,
    differing,
    earlier_cells,
    free_names,
    make_cells,
    passed_over,
)
from pamela_cli.ablation.grid import MOST_STEPS, Variant, grid
from pamela_cli.ablation.outcome import Row, document, make_rows
from pamela_cli.ablation.side_by_side import slots_of, train_cells
from pamela_cli.ablation.slurm import open_executor
from pamela_cli.config import SINE, Config, Settings, checked, flag, read_config_file
from pamela_cli.context import Context
from pamela_cli.datasets import recipe
from pamela_cli.errors import UsageError
from pamela_cli.methods import METHODS
from pamela_cli.problem import Problem
from pamela_cli.report.rerun import changed_from
from pamela_cli.runs import ABLATION, RunFolder, numbered
from pamela_cli.settling import settle
from pamela_cli.untrusted import OddFileError, read_json


@dataclass(frozen=True)
class AblateOptions:
    """What to ablate. ``seeds`` None: 0, or with ``train`` off all that are there; ``methods`` None: all.

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
    methods: list[str] | None = None


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


def ablate(context: Context, options: AblateOptions, config_file: Path | None) -> Ablation:
    """Train the cells that are missing and compare them; :class:`Stopped` after a signal, all saved."""
    files = [read_config_file(config_file)] if config_file else []
    layers = [_given(layer) for layer in (*files, context.flags)]
    given = {name: value for layer in layers for name, value in layer.values.items()}
    if begins := sorted(given.keys() & {"init_from", "init_sha256"}):
        which = " and ".join(begins)
        raise UsageError(f"{config_file} has {which}, but an ablation trains from the start; remove it.")
    slots = _slots(options, given.get("dataset"))
    executor = None
    if options.slurm is not None:
        executor = open_executor(options.slurm, context.runs_dir / "slurm", len(slots))
    problem = _problem(context, layers)
    base, store = problem.config, problem.store
    w = _interval(options, context.flags, given)
    variants = _variants(options, base, given, w)
    if options.vary == "steps":
        usual, most = METHODS["maml"].default_steps, max(variant.steps for variant in variants)
        base = replace(base, steps=min(usual, most))
    seeds = options.seeds or [given.get("seed", 0)]
    failures: dict[Cell, str] = {}
    if options.train:
        runs = all_runs(context.runs_dir)
        cells = make_cells(variants, seeds, base, runs)
        for sentence in passed_over(cells, runs):
            context.console.say(sentence)
        free = free_names([cell for cell in cells if cell.folder is None], context.runs_dir)
        names = ["" if cell.folder else next(free) for cell in cells]
        failures = train_cells(context, cells, names, store, slots, options.figures, executor)
    runs = all_runs(context.runs_dir)
    cells = make_cells(variants, seeds, base, runs) if options.train else []
    if options.table:
        own = {(cell.variant, cell.seed, cell.config.iterations) for cell in cells}
        earlier = earlier_cells(base, options.seeds if not options.train else seeds, runs, not options.train)
        cells += [c for c in earlier if (c.variant, c.seed, c.config.iterations) not in own]
    if not cells:
        others = differing(base, runs)
        nearest = f" (the nearest differ in {', '.join(map(flag, others))})" if others else ""
        asked = " and --seeds" * (options.seeds is not None)
        raise UsageError(
            f"nothing to show: {context.runs_dir} has no finished runs with these settings{asked}{nearest}, "
            "and --iterations 0 trains none; leave out --iterations 0."
        )
    rows = make_rows(variants if options.train else [], cells, failures, base)
    table = document(rows, base, options.seeds or (seeds if options.train else None), options.vary)
    table |= {"methods": options.methods, "skip_interval": w}
    table |= {"settings": _unusual(problem)}
    folder = _folder(context.runs_dir, base, table)
    return Ablation(base, store, rows, table, folder, _by_shot(base, rows, runs))


def _problem(context: Context, layers: list[Settings]) -> Problem:
    """The problem of MAML, whose settings all cells share."""
    shared = [*map(_shared, layers), Settings({"method": "maml"})]
    return settle(context, shared, torch.device("cpu"), "ablation")


def _given(layer: Settings) -> Settings:
    """A layer's settings, checked; a method that usually takes one update says nothing of the others'."""
    values = checked(layer)
    if METHODS[values.get("method", "maml")].one_update:
        values.pop("steps", None)
    return Settings(values, layer.origin)


def _shared(layer: Settings) -> Settings:
    """The settings of a layer but those that an ablation sets in every cell."""
    own = ("method", "skip_interval", "seed")
    return Settings({name: value for name, value in layer.values.items() if name not in own}, layer.origin)


def _interval(options: AblateOptions, flags: Settings, given: dict[str, Any]) -> int | None:
    """The interval of all connections, where one is ``given``, by the file or the flags."""
    if options.vary != "skip-interval":
        return given.get("skip_interval")
    if flags.values.get("skip_interval") is not None:
        raise UsageError("--vary skip-interval varies the skip interval itself; leave out --skip-interval.")
    return None


def _variants(options: AblateOptions, base: Config, given: dict[str, Any], w: int | None) -> list[Variant]:
    if options.vary == "steps":
        return grid("steps", given.get("steps", MOST_STEPS), w, options.methods)
    variants = grid(options.vary, base.steps or 0, w, options.methods)
    if not variants:
        raise UsageError(
            f"with --steps {base.steps} there is no connection to make; raise it, or name other --methods."
        )
    return variants


def _by_shot(base: Config, rows: list[Row], runs: list[tuple[Config, RunFolder]]) -> dict[int, list[Row]]:
    """The rows of this ablation, and those of its variants that were finished with other shots.

    All by the same seeds: those of the table that every one of them has.
    """
    variants = [row.variant for row in rows]
    seeds = sorted({cell.seed for row in rows for cell in row.cells})
    found = {}
    for shot in sorted({config.shot for config, _ in runs}):
        other = replace(base, shot=shot, iterations=max(row.iterations for row in rows))
        cells = [c for c in earlier_cells(other, seeds, runs, any_budget=False) if c.variant in variants]
        if cells:
            found[shot] = cells
    made = {shot: make_rows([], cells, {}, base) for shot, cells in alike(found).items()}
    return made if len(made) > 1 else {}


def _unusual(problem: Problem) -> dict[str, Any]:
    """The settings of all cells that are not those of the recipe for ablations, but for what tables tell."""
    kind = SINE if problem.store is None else problem.store.dataset
    recipes = [recipe(kind), recipe(kind, "ablation"), Settings({"method": problem.config.method})]
    told = ("way", "shot", "steps", "iterations", "seed", "test_tasks")
    changed = changed_from(problem.config, recipes)
    return {name: value for name, value in changed.items() if name not in told}


def _folder(runs_dir: Path, base: Config, table: dict[str, Any]) -> Path:
    """Where an ablation is written: over an earlier one of the same settings, never over one of others.

    What tables tell may differ, such as the iterations; its runs, of which it can be made again, stay.
    """
    way = f"{base.way}w" if base.way else ""
    axis = "" if table["vary"] == "variant" else f"-{table['vary']}"
    stem = f"ablation-{base.dataset}-{way}{base.shot}s{axis}"
    paths = (runs_dir / name for name in numbered(stem))
    return next(path for path in paths if _made_with(path) in (None, table["settings"]))


def _made_with(folder: Path) -> Any:
    """The unusual settings of the ablation in a folder; None if there is none that can be read."""
    try:
        return read_json(folder / ABLATION).get("settings", {})
    except (OddFileError, AttributeError):
        return None


def _slots(options: AblateOptions, dataset: str | None) -> list[str]:
    """The device of each cell that is trained at a time."""
    if options.slurm is None:
        return slots_of(options.devices, options.jobs, dataset)
    # Which devices there are is for the nodes to say.
    names = options.devices.split(",")
    return [names[i % len(names)] for i in range(options.jobs or len(names))]
