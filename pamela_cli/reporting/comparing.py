"""Several runs as one section: their results side by side, their curves, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from pamela_cli.engine.evaluation import paired_advantage
from pamela_cli.methods import METHODS
from pamela_cli.reporting.drawing import Drawer, convergence_figure
from pamela_cli.reporting.page import Block, Note, Section, Table
from pamela_cli.reporting.reading import ReadRun
from pamela_cli.reporting.run_sections import result_text
from pamela_cli.results import score_text


def comparison(runs: Sequence[ReadRun], drawer: Drawer) -> Section:
    """The comparison of runs, finished or not."""
    labels = labels_of(runs)
    by_score: dict[str, dict[str, ReadRun]] = {}
    for label, run in zip(labels, runs, strict=True):
        by_score.setdefault(run.score_name, {})[label] = run
    blocks: list[Block] = [_results(labels, runs)]
    for name, group in by_score.items():
        figure = "convergence" if len(by_score) == 1 else f"convergence-{name}"
        blocks += convergence_figure(group, figure, drawer)
    return Section("Comparison", [*blocks, *_pairs(labels, runs)])


def labels_of(runs: Sequence[ReadRun]) -> list[str]:
    """What to call each run: its name, with the folder it lies in where two have the same."""
    names = [run.name for run in runs]
    labels: list[str] = []
    for run, name in zip(runs, names, strict=True):
        label = name if names.count(name) == 1 else f"{run.folder.path.resolve().parent.name}/{name}"
        labels.append(label if label not in labels else f"{label} ({len(labels) + 1})")
    return labels


def _results(labels: Sequence[str], runs: Sequence[ReadRun]) -> Table:
    header = ["run", "method", "dataset", "task", "updates", "validation", "test", "outer steps", "tasks/s"]
    rows = []
    for label, run in zip(labels, runs, strict=True):
        config, summary = run.config, run.summary
        way = f"{config.way}-way " if config.way else ""
        row = [label, METHODS[config.method].title, config.dataset or "", f"{way}{config.shot}-shot"]
        row.append(str(config.steps))
        if summary is None:
            rows.append([*row, "", result_text(run), f"{run.step:,}", ""])
        else:
            scores = [score_text(summary[split]) for split in ("val", "test")]
            rate = f"{summary['tasks_per_second']:,.1f}"
            rows.append([*row, *scores, f"{summary['iterations']:,}", rate])
    caption = (
        "Results with 95 % intervals: on validation tasks, which chose the checkpoint, and on test tasks."
    )
    return Table(caption, header, rows, frozenset((0, 1, 2, 3)))


def _pairs(labels: Sequence[str], runs: Sequence[ReadRun]) -> list[Block]:
    """How much better one run is than another, task by task, where both were tested on the same tasks."""
    rows, without = [], []
    for (a, one), (b, other) in combinations(zip(labels, runs, strict=True), 2):
        first, second = one.scores.get("test"), other.scores.get("test")
        if first is None or second is None or first.tasks != second.tasks:
            without.append(f"{a} and {b}")
            continue
        x, y = first.scores.final, second.scores.final
        if len(x) != len(y):
            without.append(f"{a} and {b}")
            continue
        higher = one.score_name == "accuracy"
        gain, ci95 = paired_advantage(x, y, higher)
        scale, unit = (100, " points") if higher else (1, "")
        text = f"{scale * gain:+.4g} ± {scale * ci95:.2g}{unit}"
        rows.append([a, b, text, f"{len(x):,}", "no" if abs(gain) <= ci95 else "yes"])
    blocks: list[Block] = []
    if rows:
        header = ["run", "is better than", "by", "tasks", "interval leaves out 0"]
        caption = (
            "Paired differences on the same test tasks, with 95 % intervals: of accuracy, or of error the "
            "other way round, so that positive is better."
        )
        blocks.append(Table(caption, header, rows, frozenset((0, 1))))
    if without:
        shown = "; ".join(without[:6]) + (" …" if len(without) > 6 else "")
        blocks.append(
            Note(f"Not compared in pairs, for want of stored scores on the same test tasks: {shown}.")
        )
    return blocks
