"""Writing a report: which folders are meant, what the page holds, and where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.machine import nearest_there
from pamela_cli.context import Context
from pamela_cli.errors import PamelaError, UsageError, holds_something_else
from pamela_cli.files import write_atomically
from pamela_cli.report.ablations import ablation_sections, ablation_title, is_ablation, read_ablation
from pamela_cli.report.comparing import comparison
from pamela_cli.report.drawing import Drawer
from pamela_cli.report.page import Page, Section, is_page, to_html
from pamela_cli.report.reading import ReadRun, read_run
from pamela_cli.report.run_sections import headline, result_text, run_sections
from pamela_cli.results import Document
from pamela_cli.runs import RunFolder, find_run, is_run, labels_of


@dataclass(frozen=True)
class _Ablation:
    folder: Path
    document: Document


def write_report(context: Context, names: Sequence[str], out: Path | None) -> dict[str, Any]:
    """Write the page of runs and ablations; returns the document of the command.

    ``out`` None: into the folder, or, of several, into the runs folder.
    """
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out} must end in .html: the report is an HTML page.")
    if out is not None and not nearest_there(out.parent).is_dir():
        raise PamelaError(f"--out {out} cannot be written: {out.parent} is not a folder; choose another.")
    folders = _folders(context, list(dict.fromkeys(names)))
    alone = folders[0].path if len(folders) == 1 else None
    target = out or (alone or context.runs_dir) / "report.html"
    if target.is_file() and not is_page(target):
        raise holds_something_else("report" if out is None else "--out", target)
    runs, ablations = _read(context, folders)
    for run in runs:
        for fault in run.faults:
            context.console.warn(f"{run.folder.path}: {fault}")
    page = _page(context, runs, ablations, target)
    try:
        write_atomically(target, to_html(page).encode())
    except PamelaError as error:
        if out is not None:
            raise
        raise PamelaError(f"{str(error).rstrip('.')}, or choose another file with --out.") from error
    return {"report": str(target), "runs": [run.summary for run in runs]}


def _read(context: Context, folders: list[RunFolder]) -> tuple[list[ReadRun], list[_Ablation]]:
    """The runs and the ablations; of several, what cannot be read is left out."""
    runs: list[ReadRun] = []
    ablations: list[_Ablation] = []
    for folder in folders:
        try:
            if is_ablation(folder.path):
                ablations.append(_Ablation(folder.path, read_ablation(folder.path)))
            else:
                runs.append(read_run(folder))
        except PamelaError as error:
            # What is no run at all was named by mistake.
            if len(folders) == 1 or isinstance(error, UsageError):
                raise
            context.console.warn(f"left out: {error}")
    if not runs and not ablations:
        raise PamelaError("none of these runs can be read; choose others.")
    return runs, ablations


def _folders(context: Context, names: list[str]) -> list[RunFolder]:
    """The folders of runs and ablations; of several, as runs/* stands for, what is none is left out."""
    others = [name for name in names if "/" in name and Path(name).exists() and not is_run(Path(name))]
    if 0 < len(others) < len(names):
        context.console.warn(f"left out, because it holds no run: {', '.join(others)}")
        names = [name for name in names if name not in others]
    return [find_run(context.runs_dir, name) for name in names]


def _page(context: Context, runs: list[ReadRun], ablations: list[_Ablation], target: Path) -> Page:
    if len(runs) == 1 and not ablations:
        run = runs[0]
        return Page(run.name, headline(run), run_sections(context, run), result_text(run))
    if not runs and len(ablations) == 1:
        folder, document = ablations[0].folder, ablations[0].document
        lead = "What each part of the method adds: variants trained alike, compared task by task."
        return Page(ablation_title(document), lead, ablation_sections(context, folder, document))
    counts = ((len(runs), "run"), (len(ablations), "ablation"))
    title = " and ".join(f"{count} {what}{'s' * (count > 1)}" for count, what in counts if count)
    lead = "Side by side, and compared task by task where they were tested on the same tasks."
    return Page(title, lead, _several(context, runs, ablations, target))


def _several(
    context: Context, runs: list[ReadRun], ablations: list[_Ablation], target: Path
) -> list[Section]:
    sections: list[Section] = []
    if len(runs) > 1:
        drawer = Drawer(target.parent / f"{target.stem}-figures", context.console)
        sections.append(comparison(runs, drawer))
    for each in ablations:
        parts = ablation_sections(context, each.folder, each.document)
        sections.append(Section(ablation_title(each.document), [], parts))
    labels = labels_of([run.folder for run in runs])
    with context.console.progress("drawing runs", len(runs)) as bar:
        for done, (label, run) in enumerate(zip(labels, runs, strict=True), 1):
            sections.append(Section(label, [], run_sections(context, run)))
            bar.update(done)
    return sections
