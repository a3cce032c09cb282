"""Tables for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table

from pamela_cli.methods import METHODS
from pamela_cli.report.stores import titled
from pamela_cli.results import norm_stats_text, score_text, task_text


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
        f"({summary['tasks_per_second']:.1f} tasks/s){skipped}; {norm_stats_text(summary['test'])}"
    )
    return titled(f"{METHODS[summary['method']].title} on {summary['dataset']}", table, note)


def evaluation_table(document: dict[str, Any]) -> Group:
    """One run's result after each update, or several runs and their differences."""
    records = document.get("runs", [document])
    first = records[0]
    tasks = task_text(first["way"], first["shot"])
    title = f"{first['dataset']} {first['split']}, {tasks}, {first['tasks']:,} tasks"
    table = Table()
    table.add_column("run")
    table.add_column("updates", justify="right")
    table.add_column("result (95 % interval)")
    table.add_column("before adaptation", justify="right")
    for record in records:
        beyond = f" (trained {record['trained_steps']})" if record["steps"] != record["trained_steps"] else ""
        before = (
            f"{record['mse_per_step'][0]:.4f}"
            if "mse" in record
            else f"{100 * record['accuracy_per_step'][0]:.2f} %"
        )
        run = record["run"]
        run += f", trained on {record['trained_on']}" if record["trained_on"] != record["dataset"] else ""
        table.add_row(run, f"{record['steps']}{beyond}", score_text(record), before)
    for pair in document.get("pairs", []):
        scale, unit = (1, "") if "mse" in first else (100, " points")
        text = f"{scale * pair['difference']:+.4g} ± {scale * pair['ci95']:.2g}{unit}"
        table.add_row(f"{pair['a']} better than {pair['b']} by", "", text, "")
    return titled(title, table, norm_stats_text(first))
