"""The cells of the published results, as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from data_prep.errors import one_line
from pamela_cli.report.stores import titled
from pamela_cli.results import score_text

_COLOURS = {"done": "green", "runs": "green", "failed": "red"}


def cells_table(document: dict[str, Any]) -> Group:
    """Each cell with its state, and its result or why there is none."""
    table = Table("cell", "state", "test (95 % interval)")
    for cell in document["cells"]:
        result = score_text(cell) if "ci95" in cell else one_line(cell["why"] or "")
        table.add_row(
            cell["cell"], Text(cell["status"], style=_COLOURS.get(cell["status"], "")), Text(result)
        )
    done = sum(cell["status"] in ("done", "runs") for cell in document["cells"])
    note = f"{done} of {len(document['cells'])} cells"
    if document["page"]:
        note += f"; page: {document['page']}"
    return titled("Results", table, note)
