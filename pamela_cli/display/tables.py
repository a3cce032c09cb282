"""Tables for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table

from pamela_cli.display.layout import titled
from pamela_cli.measures import Measure, measure_in, score_text
from pamela_cli.methods import METHODS
from pamela_cli.results import protocol_text, task_text, updates_text
from pamela_cli.untrusted import number


def summary_table(summary: dict[str, Any]) -> Group:
    """The result of a training run."""
    table = Table()
    table.add_column("split")
    table.add_column("result (95 % interval)")
    table.add_column("tasks", justify="right")
    for split in ("val", "test"):
        record = summary[split]
        table.add_row(split, score_text(record), f"{record['tasks']:,}")
    skipped = f", {summary['skipped_steps']} steps skipped" if summary["skipped_steps"] else ""
    note = (
        f"run {summary['run']}: {summary['iterations']:,} iterations in {summary['seconds']:,.0f} s "
        f"({summary['tasks_per_second']:.1f} tasks/s){skipped}; {protocol_text(summary['test'])}"
    )
    test = summary["test"]
    if number(test.get("median")) is not None:
        note += f"; median of the test {test['median']:.4g}"
    tasks = f"{task_text(test['way'], test['shot'])}, {updates_text(test['steps'])}"
    title = f"{METHODS[summary['method']].title} on {summary['dataset']}, {tasks}, seed {summary['seed']}"
    return titled(title, table, note)


def evaluation_table(document: dict[str, Any]) -> Group:
    """One run's result after each update, or several runs and their differences."""
    first = document.get("runs", [document])[0]
    tasks = task_text(first["way"], first["shot"])
    title = f"{first['dataset']} {first['split']}, {tasks}, {first['tasks']:,} tasks"
    title += "" if first["seed"] is None else f" of seed {first['seed']}"
    note = protocol_text(*document.get("runs", [document]))
    if "runs" in document:
        return titled(title, _compared(document), note)
    median = f"; median {first['median']:.4g}" if measure_in(first).heavy_tailed else ""
    return titled(title, _by_update(document), f"run {_with_origin(document)}; {note}{median}")


def _by_update(record: dict[str, Any]) -> Table:
    """The result before adaptation, and after each update."""
    measure = measure_in(record)
    table = Table()
    table.add_column("updates", justify="right")
    table.add_column("result (95 % interval)")
    trained = record["trained_steps"]
    for step, (score, ci95) in enumerate(
        zip(record[f"{measure.name}_per_step"], record["ci95_per_step"], strict=True)
    ):
        beyond = f" (trained {trained})" if step == record["steps"] != trained else ""
        style = "bold" if step == record["steps"] else ""
        table.add_row(f"{step}{beyond}", measure.score(score, ci95), style=style)
    return table


def _with_origin(record: dict[str, Any]) -> str:
    elsewhere = record["trained_on"] != record["dataset"]
    return str(record["run"]) + (f", trained on {record['trained_on']}" if elsewhere else "")


def _compared(document: dict[str, Any]) -> Table:
    records = document["runs"]
    measure = measure_in(records[0])
    table = Table()
    table.add_column("run", overflow="fold")  # names often differ in their last letters alone
    table.add_column("updates", justify="right")
    table.add_column("result (95 % interval)")
    table.add_column("before adaptation", justify="right")
    for record in records:
        beyond = f" (trained {record['trained_steps']})" if record["steps"] != record["trained_steps"] else ""
        before = measure.number(record[f"{measure.name}_per_step"][0]) + measure.unit
        # With test-time augmentation all support sets are mirrored, and the note says so.
        mirrored = ", with mirrored support" * bool(record.get("mirror_support") and not record.get("tta"))
        run = _with_origin(record) + mirrored
        table.add_row(run, f"{record['steps']}{beyond}", score_text(record), before)
    for pair in document["pairs"]:
        table.add_row(*_gain(pair, measure), "")
    return table


def _gain(pair: dict[str, Any], measure: Measure) -> tuple[str, str, str]:
    """A paired difference, as the gain of the better run over the other."""
    (better, other), by, ci95 = (pair["a"], pair["b"]), pair["difference"], pair["ci95"]
    if (number(by) or 0) < 0:
        better, other, by = other, better, -by
    certain = number(by) is None or number(ci95) is None or by > ci95
    text = measure.gain(by, ci95) + ("" if certain else " (0 is in the interval)")
    return f"gain of {better} over {other}", "", text
