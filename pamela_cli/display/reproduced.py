"""The cells of the planned results, as a table for the terminal."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from data_prep.errors import one_line
from pamela_cli.display.layout import titled
from pamela_cli.measures import score_text

_COLOURS = {"done": "green", "runs": "green", "diverged": "yellow", "failed": "red"}


def _result(cell: dict[str, Any]) -> str:
    return score_text(cell) if "ci95" in cell else one_line(cell["why"] or "")


def cells_table(document: dict[str, Any]) -> Group:
    """A row for each method of a group: the states of its seeds, and their results or why one failed."""
    table = Table("group", "method", "seeds", "test (95 % interval)")
    groups = list(dict.fromkeys(cell["cell"].partition("/")[0] for cell in document["cells"]))
    ordered = sorted(document["cells"], key=lambda cell: groups.index(cell["cell"].partition("/")[0]))
    rows = groupby(ordered, key=lambda cell: cell["cell"].rpartition("-s")[0])
    shown = ""
    for name, cells in rows:
        group, _, method = name.partition("/")
        states, results = Text(), []
        for state, alike in groupby(cells, key=lambda cell: cell["status"]):
            found = list(alike)
            seeds = ", ".join(cell["cell"].rpartition("-s")[2] for cell in found)
            states.append(f"{', ' if states else ''}{seeds} {state}", style=_COLOURS.get(state, ""))
            results += [_result(cell) for cell in found if "ci95" in cell or state in ("failed", "diverged")]
        if group != shown and shown:
            table.add_section()
        table.add_row("" if group == shown else group, method, states, Text("\n".join(results)))
        shown = group
    done = sum(cell["status"] in ("done", "diverged", "runs") for cell in document["cells"])
    note = f"{done} of {len(document['cells'])} cells"
    if document["page"]:
        note += f"; page: {document['page']}"
    return titled("Results", table, note)
