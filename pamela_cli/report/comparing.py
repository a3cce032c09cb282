"""Several runs as one section: their results side by side, their curves, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from pamela_cli.engine.intervals import paired_advantage
from pamela_cli.errors import some_of
from pamela_cli.measures import score_text
from pamela_cli.methods import METHODS
from pamela_cli.report.drawing import Drawer, convergence_figure
from pamela_cli.report.page import Block, Note, Section, Table
from pamela_cli.report.reading import ReadRun
from pamela_cli.results import task_text
from pamela_cli.runs import labels_of


def comparison(runs: Sequence[ReadRun], drawer: Drawer) -> Section:
    """The comparison of runs, finished or not."""
    labels = labels_of([run.folder for run in runs])
    by_score: dict[str, dict[str, ReadRun]] = {}
    for label, run in zip(labels, runs, strict=True):
        by_score.setdefault(run.config.measure.name, {})[label] = run
    blocks: list[Block] = [_results(labels, runs)]
    for name, group in by_score.items():
        figure = "convergence" if len(by_score) == 1 else f"convergence-{name}"
        blocks += convergence_figure(group, figure, drawer)
    return Section("Comparison", [*blocks, *_pairs(labels, runs)])


def _results(labels: Sequence[str], runs: Sequence[ReadRun]) -> Table:
    header = ["run", "method", "tasks of", "updates", "validation", "test", "outer steps"]
    rows = []
    for label, run in zip(labels, runs, strict=True):
        config, summary = run.config, run.summary
        task = f"{config.dataset}, {task_text(config.way, config.shot)}"
        row = [label, METHODS[config.method].title, task, str(config.steps)]
        if run.divergence is not None:
            rows.append([*row, "", "Diverged", f"{run.step:,} of {config.iterations:,}"])
        elif summary is None:
            rows.append([*row, "", "Not finished", f"{run.step:,} of {config.iterations:,}"])
        else:
            scores = [score_text(summary[split]) for split in ("val", "test")]
            rows.append([*row, *scores, f"{summary['iterations']:,}"])
    caption = (
        "Results with 95 % intervals: on the validation tasks, which selected the "
        "checkpoint, and on the test tasks."
    )
    return Table(caption, header, rows, frozenset((0, 1, 2)))


def _pairs(labels: Sequence[str], runs: Sequence[ReadRun]) -> list[Block]:
    """How much better one run is than another, task by task, where both were tested on the same tasks."""
    tested = {label: run for label, run in zip(labels, runs, strict=True) if "test" in run.scores}
    rows = []
    for (a, one), (b, other) in combinations(tested.items(), 2):
        first, second = one.scores["test"], other.scores["test"]
        x, y = first.scores.final, second.scores.final
        if first.tasks == second.tasks and len(x) == len(y):
            measure = one.config.measure
            gain, ci95 = paired_advantage(x, y, measure.higher_is_better)
            certain = "yes" if abs(gain) > ci95 else "no"
            rows.append([a, b, measure.gain(gain, ci95), f"{len(x):,}", certain])
    blocks: list[Block] = []
    if rows:
        header = ["run", "compared with", "gain", "tasks", "interval excludes 0"]
        caption = (
            "Paired differences on the same test tasks, with 95 % intervals: of accuracy, or of error with "
            "its sign reversed, so that positive is better."
        )
        blocks.append(Table(caption, header, rows, frozenset((0, 1))))
    if len(rows) < len(tested) * (len(tested) - 1) // 2:
        blocks.append(Note("Runs that were tested on different tasks are not compared in pairs."))
    if untested := [label for label in labels if label not in tested]:
        names = some_of(untested)
        blocks.append(
            Note(f"No paired differences, because the score of each test task is missing: {names}.")
        )
    return blocks
