"""The runs of a folder, as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from data_prep.errors import one_line
from pamela_cli.config import typed
from pamela_cli.display.layout import named, titled
from pamela_cli.measures import score_text
from pamela_cli.methods import METHODS
from pamela_cli.results import task_text


def runs_table(document: dict[str, Any]) -> Group:
    """A row for each run: what it is, how far it is, its best validation and its test."""
    title = one_line(f"Runs in {document['runs_dir']}")
    if not document["runs"]:
        return Group(Text(title, style="bold"), Text("none yet", style="dim"))
    table = Table(
        Column("run", overflow="fold"),
        Column("outer steps", justify="right"),
        Column("best validation", justify="right"),
        Column("test", justify="right"),
    )
    for entry in document["runs"]:
        table.add_row(*_row(entry))
    runs = document["runs"]
    unfinished = sum(entry["status"] == "unfinished" for entry in runs)
    notes = [f"{len(runs)} run{'s' * (len(runs) != 1)}; 95 % intervals"]
    if unfinished:
        notes.append(f"{unfinished} unfinished: `pamela meta-train --run RUN --resume` continues one")
    if document["ablations"]:
        notes.append(one_line(f"ablations: {', '.join(document['ablations'])}"))
    return titled(title, table, "; ".join(notes))


def _row(entry: dict[str, Any]) -> tuple[Text, ...]:
    if entry["status"] == "damaged":
        return Text.assemble(named(entry["run"]), "\n", (one_line(entry["fault"]), "red")), *([Text("–")] * 3)
    tasks = task_text(entry["way"], entry["shot"])
    what = f"{METHODS[entry['method']].title}, {entry['dataset']}, {tasks}, seed {entry['seed']}"
    what += "".join(f", {' '.join(typed(name, value))}" for name, value in entry["settings"].items())
    finished = entry["status"] == "finished"
    steps = f"{entry['step']:,}" if finished else f"{entry['step']:,} of {entry['iterations']:,}"
    scores = (score_text(entry[split]) if entry[split] else "–" for split in ("val", "test"))
    colour = {"finished": "", "diverged": "red"}.get(entry["status"], "yellow")
    return (
        Text.assemble(named(entry["run"]), "\n", (one_line(what), "dim")),
        Text(f"{steps}\ndiverged" if entry["status"] == "diverged" else steps, style=colour),
        *(Text(score.replace("MSE ", "")) for score in scores),
    )
