"""Which results are planned: groups of cells, from ``results.toml`` beside this file."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from pamela_cli.config import Settings
from pamela_cli.errors import UsageError, meant


@dataclass(frozen=True)
class PlannedCell:
    """A method under a seed, with the settings of its group."""

    group: str
    method: str
    seed: int
    settings: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        """Its folder below that of the results."""
        return f"{self.group}/{self.method}-s{self.seed}"

    @property
    def dataset(self) -> str:
        """What it is trained on."""
        return str(dict(self.settings)["dataset"])

    @property
    def layer(self) -> Settings:
        """Its settings, which stand over the dataset's recipe."""
        return Settings(
            {**dict(self.settings), "method": self.method, "seed": self.seed}, "the plan of results"
        )


@dataclass(frozen=True)
class Group:
    """Cells that are compared with each other, in the order in which they are trained.

    Groups of other shots share its ``figure``, the name of a file, and what stands above it.
    """

    name: str
    title: str
    figure: str
    figure_title: str
    cells: tuple[PlannedCell, ...]

    @property
    def dataset(self) -> str:
        """What they are trained on."""
        return self.cells[0].dataset


def read_plan(names: Sequence[str] = ()) -> list[Group]:
    """The groups of those names, or all; UsageError for a name that is none."""
    plan = tomllib.loads(plan_text())
    groups = [_group(entry, plan["figures"]) for entry in plan["group"]]
    known = [group.name for group in groups]
    for name in names:
        if name not in known:
            raise UsageError(f"there is no group {name}{meant(name, known, listed=True)}")
    return [group for group in groups if not names or group.name in names]


def plan_text() -> str:
    """The plan, TOML."""
    return (files("pamela_cli") / "reproducing" / "results.toml").read_text(encoding="utf-8")


def _group(entry: dict[str, Any], figures: dict[str, str]) -> Group:
    settings = tuple(entry["settings"].items())
    cells = [
        PlannedCell(entry["name"], method, seed, settings)
        for method, seeds in entry["cells"].items()
        for seed in seeds
    ]
    figure = entry["figure"]
    return Group(entry["name"], entry["title"], figure, figures[figure], tuple(cells))


def in_order(groups: Sequence[Group]) -> list[PlannedCell]:
    """All cells, dataset by dataset, and within one method by method over its groups."""
    ordered: list[PlannedCell] = []
    for dataset in dict.fromkeys(group.dataset for group in groups):
        cells = [cell for group in groups if group.dataset == dataset for cell in group.cells]
        methods = list(dict.fromkeys(cell.method for cell in cells))
        ordered += sorted(cells, key=lambda cell: methods.index(cell.method))
    return ordered
