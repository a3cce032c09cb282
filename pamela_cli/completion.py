"""What the shell completes after ``pamela --install-completion``: the names of runs, datasets and choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import typer


def among(names: Sequence[str]) -> Callable[[str], list[str]]:
    """Complete to one of these."""
    return lambda incomplete: _beginning(names, incomplete)


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete to the name of a run in the runs folder; for a path, the shell offers files by itself."""
    return _beginning(_folders_with(ctx, "config.toml"), incomplete)


def runs_and_ablations(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete to the name of a run or of an ablation in the runs folder."""
    return _beginning([*_folders_with(ctx, "config.toml"), *_folders_with(ctx, "ablation.json")], incomplete)


def datasets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete to the name of a store in the data folder, or of a dataset that needs no preparation."""
    stores = (path.stem for path in _folder(ctx.params, "data_dir", "data").glob("*.h5"))
    return _beginning({"sine", "glyphs", *stores}, incomplete)


def preparable(incomplete: str) -> list[str]:
    """Complete to the name of a dataset that ``pamela prepare`` knows."""
    from data_prep.sources import dataset_infos

    return _beginning((info.name for info in dataset_infos()), incomplete)


def _folders_with(ctx: typer.Context, file: str) -> list[str]:
    folder = _folder(ctx.params, "runs_dir", "runs")
    return [path.parent.name for path in folder.glob(f"*/{file}")]


def _folder(given: dict[str, Any], option: str, usual: str) -> Path:
    return Path(given.get(option) or usual)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    # Names with a dot before them are drafts that are being written, or hidden.
    return sorted(name for name in names if name.startswith(incomplete) and not name.startswith("."))
