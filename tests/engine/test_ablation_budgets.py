"""Which finished runs an ablation takes, and which it compares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ablation_support import BASE, cell, finished

from pamela_cli.ablation.cells import all_runs, earlier_cells, run_with
from pamela_cli.ablation.outcome import document, make_rows


def test_gains_compare_as_many_iterations(tmp_path: Path) -> None:
    for iterations, errors in ((50, (20.0, 4.0)), (70, (10.0, 3.0))):
        for method, error in zip(("maml", "q"), errors, strict=True):
            finished(tmp_path, replace(cell(method), iterations=iterations), [error, error])
    cells = earlier_cells(BASE, None, all_runs(tmp_path), any_budget=True)
    rows = document(make_rows([], cells, {}, BASE), BASE, None)["rows"]
    gains = {(row["label"], row["iterations"]): row["gain"] for row in rows}
    assert gains == {("MAML", 50): None, ("+Q", 50): 16.0, ("MAML", 70): None, ("+Q", 70): 7.0}


def test_of_finished_runs_that_are_alike_the_first_is_taken(tmp_path: Path) -> None:
    runs = [finished(tmp_path, cell("q"), [1.0, 2.0]) for _ in range(3)]
    assert len({run.name for run in runs}) == 3
    assert run_with(cell("q"), all_runs(tmp_path)) == runs[0]


def test_training_and_tables_take_the_same_run(tmp_path: Path) -> None:
    """The one with the shortest name, whatever the order of names."""
    for name in ("a-long-name", "short", "z"):
        finished(tmp_path, cell("q"), [1.0, 2.0]).path.rename(tmp_path / name)
    runs = all_runs(tmp_path)
    (taken,) = earlier_cells(BASE, None, runs, any_budget=False)
    chosen = run_with(cell("q"), runs)
    assert taken.folder is not None and chosen is not None
    assert taken.folder.name == chosen.name == "z"
