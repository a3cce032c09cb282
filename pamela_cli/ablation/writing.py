"""The folder of an ablation: its document, tables, and figures, made from the runs alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from pamela_cli.ablation.ablating import Ablation
from pamela_cli.ablation.cells import Cell
from pamela_cli.ablation.outcome import Row
from pamela_cli.console import finite
from pamela_cli.display import ablation_figures as draw
from pamela_cli.display.ablations import FORMATS, title
from pamela_cli.display.figures import fitted_waves, loss_by_update
from pamela_cli.engine.intervals import Floats, mean_ci95
from pamela_cli.engine.tasks import Tasks
from pamela_cli.files import write_atomically
from pamela_cli.judging import SHOWN_WAVES, fit_curves, load_learner
from pamela_cli.methods import USUAL_INTERVAL, makes_one_update
from pamela_cli.metrics import drawable
from pamela_cli.problem import Problem
from pamela_cli.report.drawing import KNOWN
from pamela_cli.runs import ABLATION
from pamela_cli.untrusted import OddFileError, read_text

_SUFFIXES = {"markdown": "md", "latex": "tex", "csv": "csv"}


def write_ablation(found: Ablation, figures: bool) -> Iterator[Path]:
    """Write all that an ablation has to show; yields the paths of what is worth looking at."""
    folder = found.folder
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(finite(found.document), indent=2, ensure_ascii=False) + "\n"
    if figures or not _has(folder / ABLATION, text):
        _remove_figures(folder / "figures")
    write_atomically(folder / ABLATION, text)
    for name, render in FORMATS.items():
        write_atomically(folder / f"table.{_SUFFIXES[name]}", render(found.document))
    yield folder / ABLATION
    if figures and any(row.scores for row in found.rows):
        yield from _figures(found, folder / "figures")


def _has(path: Path, text: str) -> bool:
    with suppress(OddFileError):
        return read_text(path, len(text.encode())) == text
    return False


def _remove_figures(folder: Path) -> None:
    """Those of an earlier table, which a page would show beside this one."""
    if folder.is_symlink():  # not followed: see `display.figures.save`
        return
    for name in KNOWN:
        for suffix in ("png", "pdf", "csv"):
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)


def _figures(found: Ablation, folder: Path) -> Iterator[Path]:
    document, name = _of_one_budget(found.document), title(found.document)
    if document is not found.document:
        name += f", {document['iterations']:,} iterations"
    yield draw.dissection(document, folder / "dissection", name)
    if len({row["steps"] for row in document["rows"] if not makes_one_update(row["variant"])}) > 1:
        yield draw.by_updates(document, folder / "by-updates", name)
    shown = _shown(found)
    cells = _of_one_seed(shown)
    seeds = ", ".join(map(str, sorted({cell.seed for cell in cells.values()})))
    metrics = {
        label: drawable(cell.folder.metrics(), found.base.measure)
        for label, cell in cells.items()
        if cell.folder is not None
    }
    yield draw.convergence(metrics, folder / "convergence", found.base.way, f"{name}, seed {seeds}")
    unit = found.base.measure.loss_unit
    scores = [(row.variant.label, row.scores[cells[row.variant.label].seed]) for row in shown]
    subtitle = f"{name}, {found.base.test_tasks:,} test tasks, seed {seeds}"
    trained = [row.variant.steps for row in shown]
    yield loss_by_update(scores, folder / "loss-by-update", subtitle, trained, unit)
    if found.by_shot:
        yield draw.by_shot(_by_shot(found), folder / "by-shot", document)
    if found.store is None:
        yield from _sine_fits(found, cells, folder)


def _of_one_budget(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the rows of the most iterations alone: others are no variants of them."""
    scored = [row["iterations"] for row in document["rows"] if row["seed_scores"]]
    most = max(scored)
    if set(scored) == {most}:
        return document
    rows = [row for row in document["rows"] if row["iterations"] == most]
    return document | {"rows": rows, "iterations": most}


def _shown(found: Ablation) -> list[Row]:
    """The rows that curves are drawn of: of methods with connections one each, w = 2 if there.

    +Q shared is left to the table, as in the paper.
    """
    steps = found.base.steps or 0
    most = max(row.iterations for row in found.rows if row.scores)
    rows = [row for row in found.rows if row.scores and row.iterations == most and row.status != "equal"]
    there = [row.variant.steps for row in rows if not row.variant.alone]
    steps = steps if steps in there else max(there, default=steps)
    here = [row for row in rows if row.variant.steps == steps or row.variant.alone]
    shown: dict[str, Row] = {}
    for row in here:
        if row.variant.skip_interval == USUAL_INTERVAL or row.variant.method not in shown:
            shown[row.variant.method] = row
    return [row for method, row in shown.items() if method != "q-shared"] or here


def _of_one_seed(rows: list[Row]) -> dict[str, Cell]:
    """A cell of each row, by label: of the first seed that all have scores of, or else that it has."""
    common = set.intersection(*(set(row.scores) for row in rows))
    return {
        row.variant.label: next(cell for cell in row.cells if cell.seed in (common or row.scores))
        for row in rows
    }


def _by_shot(found: Ablation) -> dict[str, dict[int, tuple[float, float]]]:
    lines: dict[str, dict[int, tuple[float, float]]] = {}
    for row in _shown(found):
        for shot, rows in found.by_shot.items():
            own = [other for other in rows if other.variant == row.variant and other.scores]
            if own:
                lines.setdefault(row.variant.label, {})[shot] = mean_ci95(own[0].final)
    return lines


def _sine_fits(found: Ablation, cells: dict[str, Cell], folder: Path) -> Iterator[Path]:
    """The fits of the methods, and those after each update of the last one shown."""
    curves: dict[str, Floats] = {}
    for label, cell in cells.items():
        assert cell.folder is not None
        problem = Problem(cell.config, None, torch.device("cpu"))
        tasks: Tasks = next(problem.fixed_tasks("test", found.base.test_tasks).batches(SHOWN_WAVES))
        support, truth, fits = fit_curves(
            load_learner(cell.folder, problem), problem, tasks, cell.variant.steps
        )
        curves[label] = fits[-1]
    yield draw.method_fits(support, truth, curves, folder / "fits-of-methods")
    label, cell = list(cells.items())[-1]
    yield fitted_waves(f"{label}, seed {cell.seed}", support, truth, fits, folder / "fits-by-update")
