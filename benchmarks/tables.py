"""What was measured, as tables."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchmarks.engines import ENGINES
from benchmarks.measures import Measure
from pamela_cli.display.complexity import three_digits
from pamela_cli.results import hardware_text

Row = dict[str, Any]
FASTER = {("cpu", 32): 1.8, ("cpu", 84): 1.5, ("cuda", 84): 10.0}
"""How many times faster than the fastest peer training is to be, by device and image size."""


def comparison_table(rows: list[Row], varied: list[str]) -> Group:
    """A table for each setting; ``varied`` names what tells the settings apart."""
    parts: list[Any] = []
    for group in by_setting(rows, varied):
        parts += [Text(setting_title(group[0]), style="bold"), _table(group)]
        parts += [Text(f"{row['engine']} failed: {row['failed']}") for row in group if row["failed"]]
        parts += [Text(f"{row['engine']}: {remark}") for row in group for remark in row["remarks"]]
        parts += [*(Text(line) for line in fastest_peer(group)), ""]
    parts.append(Text(_NOTE, style="dim"))
    return Group(*parts)


_NOTE = """Times: median (interquartile range), ms per task. ×: time relative to pamela-maml, round by round.
Limit: operations of convolutions and linear layers, over the rate of a large matrix product in the same run.
Peak: what one training step of the whole meta-batch adds. Error: relative, of the meta-gradient in float64,
against plain PyTorch."""


def by_setting(rows: list[Row], varied: list[str]) -> list[list[Row]]:
    """The rows in groups of one setting each, in order."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in varied), []).append(row)
    return list(groups.values())


def setting_title(row: Row) -> str:
    """The network and the tasks of a row."""
    tasks = f"{row['steps']} updates, meta-batch {row['meta_batch']}, {row['device']}"
    tasks += f", {row['precision']}" * (row["precision"] != "float32") + ", peers tuned" * row["tuned_peers"]
    if row["network"] == "mlp":
        return f"sine waves, network 1-{row['width']}-{row['width']}-1, {row['shot']} points, {tasks}"
    size = f"{row['image_size']}×{row['image_size']}×{row['channels']}"
    return f"Conv4-{row['width']}, {size}, {row['way']}-way {row['shot']}-shot, {tasks}"


def _table(rows: list[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    names = ("engine", "train\nms", "×", "of\nlimit", "test\nms", "×", "peak\nMiB", "error")
    for i, name in enumerate(names):
        table.add_column(name, justify="right" if i else "left", vertical="bottom", no_wrap=True)
    for row in rows:
        cells = [row["engine"]]
        for what in ("train", "test"):
            median, times, share = (row[f"{what}_{n}"] for n in ("ms", "times_ours", "share_of_limit"))
            spread = row[f"{what}_ms_spread"]
            cells.append("" if median is None else f"{three_digits(median)} ({three_digits(spread)})")
            cells.append("" if times is None else f"{times:.2f}")
            if what == "train":
                cells.append("" if share is None else f"{100 * share:.0f} %")
        memory = row["peak_memory_bytes"]
        cells.append("?" if memory is None else f"{memory / 2**20:,.0f}")
        cells.append(f"{row['gradient_error']:.0e}" if "gradient_error" in row else "")
        table.add_row(*cells)
    return table


def fastest_peer(rows: list[Row]) -> list[str]:
    """How this project's MAML stands against the fastest peer, and against its target."""
    lines = []
    for what, name in (("train", "training"), ("test", "testing")):
        peers = [row for row in rows if row["peer"] and row[f"{what}_times_ours"] is not None]
        if not peers:
            continue
        fastest = min(peers, key=lambda row: row[f"{what}_ms"])
        times = fastest[f"{what}_times_ours"]
        line = f"{name}: {times:.2f} times as fast as the fastest peer, {ENGINES[fastest['engine']].title}"
        wanted = _wanted(fastest) if what == "train" else None
        if wanted is not None:
            line += f" (wanted: {wanted}, {'met' if times >= wanted else 'missed'})"
        lines.append(line)
    return lines


def _wanted(row: Row) -> float | None:
    """The target of training in a row's setting, if it has one."""
    device = row["device"].partition(":")[0]
    return FASTER.get((device, row["image_size"])) if row["network"] == "conv4" else None


def measures_table(measures: list[Measure]) -> Table:
    """A line for each measurement, with its target."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for i, name in enumerate(("what", "median", "spread", "unit", "target", "")):
        table.add_column(name, justify="right" if i in (1, 2, 4) else "left")
    for each in measures:
        target = "" if each.target is None else f"{'≥' if each.at_least else '≤'} {each.target:g}"
        verdict = {None: "", True: "met", False: "missed"}[each.met]
        table.add_row(
            each.what, three_digits(each.median), three_digits(each.spread), each.unit, target, verdict
        )
    return table


def hardware(environment: dict[str, Any]) -> str:
    """What everything ran on."""
    peers = ", ".join(
        f"{name} {version or 'not installed'}" for name, version in environment["peers"].items()
    )
    versions = f"Python {environment['python']}, PyTorch {environment['torch']}"
    return f"{hardware_text(environment)}; {versions}; {peers}"
