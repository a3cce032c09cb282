"""Which finished runs an ablation takes, and which it compares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pamela_cli.ablation.cells import all_runs, earlier_cells, find_cell
from pamela_cli.ablation.outcome import document, make_rows
from pamela_cli.config import Config, Settings, resolve
from pamela_cli.engine.evaluation import TaskScores
from pamela_cli.runs import RunFolder, create_run
from pamela_cli.scores import StoredScores, write_scores

BASE = resolve([Settings({"dataset": "sine", "method": "maml", "steps": 5, "test_tasks": 2})])
Q = replace(BASE, method="q")


def finished(runs_dir: Path, config: Config, error: float) -> RunFolder:
    folder = create_run(runs_dir, None, config, {})
    each = np.full((2, (config.steps or 0) + 1), error)
    write_scores(folder.scores, {"test": StoredScores("the same", TaskScores(each, each))})
    folder.write_summary({"test": {"mse": error}})
    return folder


def test_gains_compare_as_many_iterations(tmp_path: Path) -> None:
    for iterations, errors in ((50, (20.0, 4.0)), (70, (10.0, 3.0))):
        for config, error in zip((BASE, Q), errors, strict=True):
            finished(tmp_path, replace(config, iterations=iterations), error)
    cells = earlier_cells(BASE, None, all_runs(tmp_path), any_budget=True)
    rows = document(make_rows([], cells, {}, BASE), BASE, None)["rows"]
    gains = {(row["label"], row["iterations"]): row["gain"] for row in rows}
    assert gains == {("MAML", 50): None, ("+Q", 50): 16.0, ("MAML", 70): None, ("+Q", 70): 7.0}


def test_of_finished_runs_that_are_alike_the_first_is_taken(tmp_path: Path) -> None:
    runs = [finished(tmp_path, Q, 1.0) for _ in range(3)]
    assert len({run.name for run in runs}) == 3
    assert find_cell(Q, all_runs(tmp_path)) == runs[0]
