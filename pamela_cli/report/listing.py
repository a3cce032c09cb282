"""What is in a folder of runs: which are finished, how far the others are, and their results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pamela_cli.config import Config
from pamela_cli.errors import PamelaError
from pamela_cli.measures import measure_in
from pamela_cli.metrics import Record, best_validation, drawable
from pamela_cli.progress import DIVERGENCE_WINDOWS, Progress
from pamela_cli.report.rerun import changed_settings
from pamela_cli.runs import ABLATION, RunFolder, runs_in
from pamela_cli.untrusted import number

_TOLD = {"method", "dataset", "way", "shot", "seed", "iterations"}
"""What each entry tells by itself."""


def listing(runs_dir: Path, data_dir: Path) -> dict[str, Any]:
    """The runs and ablations in a folder, by name, as a document (see docs/reports.md).

    Only small files are read, no checkpoint: a run may be training meanwhile. One that cannot be read is
    ``damaged``, with a ``fault``.
    """
    ablations = sorted(file.parent.name for file in runs_dir.glob(f"*/{ABLATION}"))
    return {
        "runs_dir": str(runs_dir),
        "runs": [_entry(folder, data_dir) for folder in runs_in(runs_dir)],
        "ablations": ablations,
    }


def _entry(folder: RunFolder, data_dir: Path) -> dict[str, Any]:
    try:
        config = folder.read_config()[0]
        summary = folder.read_summary()
        lines = [] if summary is not None else list(folder.metrics())
    except PamelaError as error:
        return {"run": folder.name, "status": "damaged", "fault": str(error)}
    metrics = drawable(lines, config.measure)
    step = metrics[-1]["step"] if metrics else 0
    unfinished = "diverged" if _has_diverged(lines, step, config) else "unfinished"
    return {
        "run": folder.name,
        "status": unfinished if summary is None else "finished",
        "fault": None,
        **{key: getattr(config, key) for key in ("method", "dataset", "way", "shot", "steps", "seed")},
        "skip_interval": config.skip_interval,
        "settings": {
            name: getattr(config, name) for name in sorted(changed_settings(config, data_dir) - _TOLD)
        },
        "iterations": config.iterations,
        "step": step if summary is None else config.iterations,
        "val": _best(metrics, config) if summary is None else _score(summary["val"]),
        "test": None if summary is None else _score(summary["test"]),
    }


def _has_diverged(lines: Sequence[Record], step: int, config: Config) -> bool:
    """Whether --resume would go no further, as far as the metrics tell."""
    windows = [number(line.get("skipped")) or 0 for line in lines if "val_scores" not in line]
    progress = Progress(step=step, recent_skips=[int(skips) for skips in windows[-DIVERGENCE_WINDOWS:]])
    return bool(windows) and progress.divergence(config) is not None


def _score(record: Record) -> Record:
    return {key: record[key] for key in (measure_in(record).name, "ci95", "tasks")}


def _best(metrics: Sequence[Record], config: Config) -> Record | None:
    """The best validation so far."""
    name = config.measure.name
    best = best_validation(metrics, config.measure)
    if best is None:
        return None
    return {name: best[f"val_{name}"], "ci95": best["val_ci95"], "tasks": config.val_tasks}
