"""Stores as tables and documents. Nothing here needs torch: `pamela prepare` starts without it."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from data_prep import StoreSummary


def titled(title: str, table: Table, note: str) -> Group:
    """A table between its title and a note; neither is broken to the table's width."""
    return Group(Text(title, style="bold"), table, Text(note, style="dim"))


def store_table(summary: StoreSummary, done: str) -> Group:
    """What a store holds."""
    table = Table()
    for heading in ("split", "classes", "images"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, counts in summary.splits.items():
        table.add_row(split, f"{counts['classes']:,}", f"{counts['images']:,}")
    size = summary.image_size
    note = f"{summary.dataset}, {size}×{size}, from {summary.form}"
    return titled(f"{summary.store} {done}", table, note)


def store_record(summary: StoreSummary) -> dict[str, Any]:
    """A store that was prepared or verified; ``sha256`` is the checksum of its content."""
    return {
        "store": str(summary.store),
        "dataset": summary.dataset,
        "form": summary.form,
        "image_size": summary.image_size,
        "splits": summary.splits,
        "sha256": summary.sha256,
    }
