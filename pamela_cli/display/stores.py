"""Stores as tables and documents. Nothing here needs torch: `pamela prepare` starts without it."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from data_prep import StoreSummary
from data_prep.errors import one_line, shortened
from data_prep.listing import FoundStore, ListedDataset
from pamela_cli.display.layout import named, titled


def store_table(summary: StoreSummary, done: str) -> Group:
    """What a store holds."""
    table = Table()
    for heading in ("split", "classes", "images"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, counts in summary.splits.items():
        table.add_row(split, f"{counts['classes']:,}", f"{counts['images']:,}")
    size = summary.image_size
    note = one_line(f"{summary.dataset}, {size}×{size}; source: {summary.form}")
    return titled(one_line(f"{summary.store} {done}"), table, note)


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


def listing_tables(datasets: list[ListedDataset], stores: list[FoundStore]) -> Group:
    """What can be prepared, with terms and citation, and what is in the data folder."""
    headings = ("dataset", "images", "classes\n(train/val/test)", "accepted forms")
    known = Table(*(Column(heading, overflow="fold") for heading in headings), show_lines=True)
    for entry in datasets:
        info = entry.info
        numbers = "/".join(f"{classes:,}" for classes, _ in info.counts.values()) or "your own"
        size = f"{entry.image_size}×{entry.image_size}×{entry.channels}"
        known.add_row(
            "\n".join((info.name, *info.aliases)), size, numbers, "\n".join(info.forms) or "built in"
        )
    terms = Table("dataset", "terms and citation", show_lines=True)
    for entry in datasets:
        if entry.info.citation or entry.info.terms:
            terms.add_row(entry.info.name, f"{entry.info.terms}\n{entry.info.citation}".strip())
    there = Table(Column("store", overflow="fold"), "dataset", "images", "classes\n(train/val/test)")
    for found in stores:
        summary = found.summary
        if summary is None:
            there.add_row(named(found.path), Text(found.fault or "", style="red"), "", "")
            continue
        classes = "/".join(f"{counts['classes']:,}" for counts in summary.splits.values())
        size = f"{summary.image_size}×{summary.image_size}"
        there.add_row(named(found.path), named(shortened(summary.dataset)), size, classes)
    prepared = there if stores else Text("nothing yet", style="dim")
    heads = [Text(text, style="bold") for text in ("What can be prepared", "Terms", "What is prepared")]
    return Group(heads[0], known, heads[1], terms, heads[2], prepared)


def listing_record(datasets: list[ListedDataset], stores: list[FoundStore]) -> dict[str, Any]:
    """The same as a document."""
    return {
        "datasets": [
            {
                "name": entry.info.name,
                "aliases": list(entry.info.aliases),
                "description": entry.info.description,
                "image_size": entry.image_size,
                "channels": entry.channels,
                "splits": {
                    split: {"classes": classes, "images": images}
                    for split, (classes, images) in entry.info.counts.items()
                },
                "forms": list(entry.info.forms),
                "terms": entry.info.terms,
                "citation": entry.info.citation,
                "downloads": list(entry.downloads),
                "built_in": entry.built_in,
            }
            for entry in datasets
        ],
        "prepared": [
            store_record(found.summary) if found.summary else {"store": str(found.path), "fault": found.fault}
            for found in stores
        ],
    }
