"""Runs of ablations that were never trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pamela_cli.config import Config, Settings, resolve
from pamela_cli.engine.evaluation import TaskScores
from pamela_cli.runs import RunFolder, create_run
from pamela_cli.scores import StoredScores, write_scores

BASE = resolve([Settings({"dataset": "sine", "method": "maml", "steps": 5, "test_tasks": 2})])


def finished(runs_dir: Path, config: Config, scores: list[float]) -> RunFolder:
    """A run folder as a finished run leaves it, with these test scores."""
    folder = create_run(runs_dir, None, config, {})
    each = np.tile(np.array(scores)[:, None], (config.steps or 0) + 1)
    write_scores(folder.scores, {"test": StoredScores("the same", TaskScores(each, each))})
    folder.write_summary({"test": {"mse": float(each.mean())}})
    return folder


def cell(method: str, w: int | None = None, *, steps: int = 5, seed: int = 0) -> Config:
    return replace(BASE, method=method, steps=steps, skip_interval=w, seed=seed)
