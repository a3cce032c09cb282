"""What the methods cost, as tables."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pamela_cli.results import hardware_text

Row = dict[str, Any]


def complexity_tables(document: dict[str, Any]) -> Group:
    """Learned numbers by method, cost of a task by method and order, and what the numbers mean."""
    rows: list[Row] = document["rows"]
    return Group(
        Text(complexity_title(document), style="bold"),
        "",
        _counts_table([row for row in rows if row["order"] == "second"]),
        "",
        _costs_table(rows),
        "",
        Text(_note(document), style="dim"),
    )


def complexity_title(document: dict[str, Any]) -> str:
    """The network, the tasks, and what they were computed on."""
    size, found = document["image_size"], document["environment"]
    network = f"Conv4-{document['width']}, {size}×{size}×{document['channels']}"
    return f"{network}, {document['way']}-way {document['shot']}-shot on {hardware_text(found)}"


def _table(*headings: str, left: int) -> Table:
    """A table with ``left`` columns of words, then numbers; two spaces apart, to fit into 80 columns."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if i < left else "right", vertical="bottom")
    return table


def _counts_table(rows: list[Row]) -> Table:
    papers = any(row["paper"] for row in rows)
    table = _table("method", "updates", "θ", "Q", "P", "sum", left=1)
    if papers:
        table.add_column("paper,\nwithout P", justify="right")
    for row in rows:
        numbers = (row["updates"], row["theta"], row["q"], row["p"], row["total"])
        cells = [row["method"], *(f"{number:,}" for number in numbers)]
        if papers:
            cells.append(f"{row['paper']['parameters'] / 1000:.2f}×10³" if row["paper"] else "")
        table.add_row(*cells)
    return table


def _costs_table(rows: list[Row]) -> Table:
    papers = any(row["paper"] for row in rows)
    times = ["train\nms", "paper\nms", "test\nms", "paper\nms"] if papers else ["train\nms", "test\nms"]
    table = _table("method", "order", *times, "train\nGFLOP", "test\nGFLOP", "peak\nMiB", left=2)
    for row in rows:
        cells = [row["method"], row["order"]]
        for what in ("train", "test"):
            median, spread = row[f"{what}_ms"], row[f"{what}_ms_spread"]
            cells.append(f"{three_digits(median)} ({three_digits(spread)})")
            if papers:
                cells.append(f"{row['paper'][f'{what}_ms']:.2f}" if row["paper"] else "")
        cells += [three_digits(row[f"{what}_flops"] / 1e9) for what in ("train", "test")]
        memory = row["peak_memory_bytes"]
        table.add_row(*cells, "?" if memory is None else f"{memory / 2**20:,.0f}")
    return table


def three_digits(value: float) -> str:
    """A number that is not negative, with three digits or more."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def _note(document: dict[str, Any]) -> str:
    train, test = document["train_tasks_per_repetition"], document["test_tasks_per_repetition"]
    together = f"{train} at a time" if train == test else f"{train} at a time (testing: {test})"
    lines = [
        f"Time per task: median (interquartile range) of {document['repetitions']} repetitions after a "
        f"warm-up, tasks {together}; {document['query']} queries per class, {document['precision']}, "
        f"PyTorch {document['environment']['torch']}.",
        "Testing needs no meta-gradient: both orders share its numbers. FLOP: convolutions and linear "
        "layers, a multiply-add counts as 2. Peak: memory of one training task.",
    ]
    if any(row["paper"] for row in document["rows"]):
        lines.append(f"The paper's Table 1 does not state {document['paper_does_not_tell']}.")
    return "\n".join(lines)
