"""The cells of an ablation, and their runs: found by their settings, not by their names."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pamela_cli.ablation.grid import Variant
from pamela_cli.config import FLAGS, SETTINGS, Config, typed
from pamela_cli.errors import PamelaError
from pamela_cli.methods import METHODS
from pamela_cli.runs import RunFolder, default_name, numbered, runs_in

_JUDGING = {"val_every", "val_tasks", "test_tasks"}
"""Settings that recipes for ablations have of their own."""


@dataclass(frozen=True)
class Cell:
    """One training of an ablation: a variant under one seed, and the run that it is, if there is one.

    It is the same cell before and after there is a run.
    """

    variant: Variant
    config: Config
    folder: RunFolder | None = field(default=None, compare=False)

    @property
    def seed(self) -> int:
        """Of its initialization and training tasks."""
        return self.config.seed

    @property
    def finished(self) -> bool:
        """Whether it was trained to its end, and its score of every task is there."""
        return self.folder is not None and self.folder.summary_file.exists() and self.folder.scores.exists()

    def __str__(self) -> str:
        return f"{self.variant.label}, n = {self.variant.steps}, seed {self.seed}"


def make_cells(
    variants: Iterable[Variant], seeds: Iterable[int], base: Config, runs: list[tuple[Config, RunFolder]]
) -> list[Cell]:
    """The cells that are trained, each with the run that has its settings.

    Variants that make no connection are +Q, and no cells of their own.
    """
    trained = dict.fromkeys(variant.trained_as for variant in variants)
    cells = []
    for seed, variant in itertools.product(seeds, trained):
        config = replace(
            base, method=variant.method, steps=variant.steps, skip_interval=variant.skip_interval, seed=seed
        )
        cells.append(Cell(variant, config, run_with(config, runs)))
    return cells


def all_runs(runs_dir: Path) -> list[tuple[Config, RunFolder]]:
    """The runs in a folder with their settings; folders that are none, or damaged ones, are passed over."""
    found = []
    for folder in runs_in(runs_dir):
        try:
            found.append((folder.read_config()[0], folder))
        except PamelaError:
            continue
    return found


def runs_of(config: Config, runs: Iterable[tuple[Config, RunFolder]]) -> list[RunFolder]:
    """The runs with these settings."""
    return [folder for other, folder in runs if nameless(other) == nameless(config)]


def run_with(config: Config, runs: Iterable[tuple[Config, RunFolder]]) -> RunFolder | None:
    """The run with these settings: a finished one before one that goes on."""
    return preferred(runs_of(config, runs))


def preferred(same: Iterable[RunFolder]) -> RunFolder | None:
    """Which of several runs with the same settings is meant."""
    return min(same, key=_preference, default=None)


def _preference(folder: RunFolder) -> tuple[bool, int]:
    return not folder.summary_file.exists(), len(folder.name)


def passed_over(cells: Iterable[Cell], runs: list[tuple[Config, RunFolder]]) -> list[str]:
    """Sentences on finished runs that would be cells, had they been validated or tested like them."""
    found = []
    for cell in (each for each in cells if each.folder is None):
        for config, folder in runs:
            names = _differences(nameless(cell.config), nameless(config))
            if names and set(names) <= _JUDGING and folder.summary_file.exists():
                why = ", ".join(" ".join(typed(name, getattr(config, name))) for name in names)
                found.append(f"{folder.path} is not taken for {cell}, because of its {why}")
                break
    return found


def _differences(one: Config, other: Config) -> list[str]:
    return [name for name in SETTINGS if getattr(one, name) != getattr(other, name)]


def nameless(config: Config) -> Config:
    """The settings, where what a store is called does not count, only what is in it."""
    return config if config.store_sha256 is None else replace(config, dataset=None)


def earlier_cells(
    base: Config, seeds: list[int] | None, runs: Iterable[tuple[Config, RunFolder]], any_budget: bool
) -> list[Cell]:
    """The finished runs that differ from ``base`` in variant and seed only, one for each.

    ``seeds`` None takes all; ``any_budget`` those of other numbers of iterations, too.
    """
    cells: dict[tuple[Variant, int, int], Cell] = {}
    for config, folder in sorted(runs, key=lambda run: _preference(run[1])):
        cell = Cell(Variant.of(config), config, folder)
        wanted = seeds is None or config.seed in seeds
        if wanted and cell.finished and _shared(config, any_budget) == _shared(base, any_budget):
            cells.setdefault((cell.variant, config.seed, config.iterations), cell)
    return sorted(cells.values(), key=lambda cell: cell.seed)


def differing(base: Config, runs: Iterable[tuple[Config, RunFolder]]) -> list[str]:
    """The flags that keep the nearest finished run of the dataset out of a table; none: no such run."""
    wanted, found = _shared(base, any_budget=True), []
    for config, folder in runs:
        if folder.summary_file.exists() and config.dataset == base.dataset:
            have = _shared(config, any_budget=True)
            found.append([name for name in _differences(have, wanted) if name in FLAGS])
    return min(found, key=len, default=[])


def alike(by_shot: Mapping[int, list[Cell]]) -> dict[int, list[Cell]]:
    """The cells whose seeds every variant has with every shot that it has any with."""
    seeds: dict[tuple[int, Variant], set[int]] = {}
    for shot, cells in by_shot.items():
        for cell in cells:
            seeds.setdefault((shot, cell.variant), set()).add(cell.seed)
    common = set.intersection(*seeds.values()) if seeds else set()
    kept = {shot: [cell for cell in cells if cell.seed in common] for shot, cells in by_shot.items()}
    return {shot: cells for shot, cells in kept.items() if cells}


def _shared(config: Config, any_budget: bool) -> Config:
    """The settings that all cells of an ablation have in common."""
    shared = replace(nameless(config), method="maml", steps=None, skip_interval=None, seed=0)
    return replace(shared, iterations=1, val_every=1, val_tasks=2) if any_budget else shared


def free_names(cells: Iterable[Cell], runs_dir: Path) -> Iterator[str]:
    """A name for the run of each cell that has none: the usual one, with what sets the cell apart."""
    given: set[str] = set()
    for cell in cells:
        v, stem = cell.variant, default_name(cell.config)
        own_steps = v.steps != METHODS[v.method].default_steps
        parts = ([f"n{v.steps}"] if own_steps else []) + ([f"w{v.skip_interval}"] if v.skip_interval else [])
        stem = "-".join([stem, *parts])
        free = (n for n in numbered(stem) if n not in given and not (runs_dir / n).exists())
        name = next(free)
        given.add(name)
        yield name
