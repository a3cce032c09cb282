"""The page of results: what is kept, beside what others have published, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pamela_cli import __version__
from pamela_cli.ablation.grid import Variant
from pamela_cli.ablation.outcome import Row, gain
from pamela_cli.config import Config
from pamela_cli.display.ablation_figures import by_shot
from pamela_cli.display.ablations import markdown_table
from pamela_cli.display.paper import ACCURACIES, OMNIGLOT_MAML, Published
from pamela_cli.engine.intervals import mean_ci95
from pamela_cli.errors import holds_something_else
from pamela_cli.files import write_atomically
from pamela_cli.methods import METHODS
from pamela_cli.report.rerun import config_command, shown_path
from pamela_cli.reproducing.further import evaluated_further
from pamela_cli.reproducing.kept import KeptResult, kept_divergence, kept_result
from pamela_cli.reproducing.plan import Group, PlannedCell
from pamela_cli.results import computed_on_text, protocol_text, task_text

_MARK = "# Results\n\nWritten by `pamela reproduce`"
_HEAD = f"""\
{_MARK} (version {{version}}) from the folders beside this page; nothing was entered by hand.
Each of them holds the settings of a run (`config.toml`), its summary, its training curve, the score of
every test task, what it was computed on, and a summary of its checkpoint.

Scores are means over test tasks that are the same for all methods, with 95 % intervals (1.96·s/√tasks). A
task counts once, with its mean over the seeds; the spread is the standard deviation of the seeds' means.
Gains are differences task by task, over the seeds that both methods have. The checkpoint was selected on
validation tasks. On the same CPU, with as many cores and processes, the same code and the same PyTorch, the
same settings give the same bits; elsewhere results vary as they do between seeds.
"""

_COMPARED_WITH = ("maml", "meta-sgd", "q")


@dataclass
class _ByShot:
    """A figure's content: mean and interval by method and shot."""

    title: str
    config: Config
    scores: dict[str, dict[int, tuple[float, float]]] = field(default_factory=dict)


def check_page(results: Path) -> None:
    """:class:`UsageError` where the page would replace a README.md that is none."""
    page = results / "README.md"
    if page.is_symlink() or page.exists():
        try:
            with page.open(encoding="utf-8") as file:
                ours = file.read(len(_MARK)) == _MARK
        except (OSError, UnicodeDecodeError):
            ours = False
        if not ours:
            raise holds_something_else("--results", page)


def write_page(results: Path, groups: Sequence[Group]) -> Path:
    """Write README.md into the folder of results, and its figures; returns its path."""
    parts = [_HEAD.format(version=__version__)]
    figures: dict[str, _ByShot] = {}
    left_out: dict[str, list[str]] = {}
    missing: list[str] = []
    for group in groups:
        kept = {cell.name: found for cell in group.cells if (found := kept_result(cell, results))}
        diverged = {cell: why for cell in group.cells if (why := kept_divergence(cell, results))}
        had = kept.keys() | {cell.name for cell in diverged}
        missing += [cell.name for cell in group.cells if cell.name not in had]
        kept, others = _on_the_same_tasks(kept)
        if kept or diverged:
            parts.append(f"## {group.title}\n")
        if kept:
            rows = _rows(group, kept)
            parts.append(_section(group, rows, list(kept.values()), others, bool(diverged)))
            config = next(iter(kept.values())).config
            figure = figures.setdefault(group.figure, _ByShot(group.figure_title, config))
            for row in rows:
                line = figure.scores.setdefault(METHODS[row.variant.method].title, {})
                line[config.shot] = mean_ci95(row.final)
        if diverged:
            parts.append(_without_result(diverged))
        left_out.setdefault(group.figure, []).extend(cell.name for cell in diverged)
    parts += _figures(results, figures, left_out)
    if missing:
        parts.append("## Not run\n\n" + _missing(missing))
    page = results / "README.md"
    write_atomically(page, "\n".join(parts))
    return page


def _on_the_same_tasks(kept: dict[str, KeptResult]) -> tuple[dict[str, KeptResult], list[str]]:
    """The results on the test tasks that most have, and the names of the others.

    Stores of the same dataset that were made from other files can have other tasks.
    """
    if not kept:
        return {}, []
    ((tasks, _),) = Counter(found.tasks for found in kept.values()).most_common(1)
    same = {name: found for name, found in kept.items() if found.tasks == tasks}
    return same, [name for name in kept if name not in same]


def _rows(group: Group, kept: dict[str, KeptResult]) -> list[Row]:
    """A row for each method, in the order of ``METHODS``."""
    rows = []
    for method in METHODS:
        found = [kept[cell.name] for cell in group.cells if cell.method == method and cell.name in kept]
        if found:
            scores = {each.config.seed: each.task_scores for each in found}
            rows.append(Row(Variant.of(found[0].config), found[0].config.iterations, [], scores))
    return rows


def _section(group: Group, rows: list[Row], kept: list[KeptResult], others: list[str], diverged: bool) -> str:
    config = kept[0].config
    measure = config.measure
    by_method = {row.variant.method: row for row in rows}
    published = _published(config.dataset or "", config.way or 0, config.shot)
    header = ["method", "updates", "seeds", measure.heading]
    header += ["median" if measure.heavy_tailed else "", "spread of seeds"]
    header += [f"gain over {METHODS[other].title}" for other in _COMPARED_WITH]
    header += ["published"] * bool(published)
    table = []
    for row in rows:
        means = [float(scores.final.mean()) for scores in row.scores.values()]
        spread = measure.number(float(np.std(means, ddof=1))) if len(means) > 1 else ""
        line = [METHODS[row.variant.method].title, str(row.variant.steps), ", ".join(map(str, row.scores))]
        # A wave on which adaptation diverges counts for a thousand others in the mean.
        median = measure.number(float(np.median(row.final))) if measure.heavy_tailed else ""
        line += [measure.interval(*mean_ci95(row.final)) or "not finite", median, spread]
        gains = (gain(row, by_method.get(other), measure) for other in _COMPARED_WITH)
        line += [measure.interval(*found, "+") for found in gains]
        if published:
            line.append(_published_text(published.get(row.variant.method)))
        table.append(line)
    parts = [_markdown(header, table), _conditions(group, kept, diverged)]
    if further := evaluated_further(kept):
        parts.append(further)
    if others:
        parts.append(f"Left out, because they were tested on other tasks than the rest: {', '.join(others)}.")
    return "\n\n".join(parts) + "\n"


def _without_result(diverged: dict[PlannedCell, str]) -> str:
    """The cells whose training diverged."""
    lines = [f"- {METHODS[cell.method].title}, seed {cell.seed}: {why}" for cell, why in diverged.items()]
    return "Training diverged and ended without a result:\n\n" + "\n".join(lines) + "\n"


def _published(dataset: str, way: int, shot: int) -> dict[str, Published]:
    if dataset == "omniglot" and (way, shot) in OMNIGLOT_MAML:
        return {"maml": OMNIGLOT_MAML[way, shot]}
    return ACCURACIES.get((dataset, way, shot), {})


def _published_text(found: Published | None) -> str:
    if found is None:
        return ""
    return f"{found[0]:g}" + ("" if found[1] is None else f" ± {found[1]:g}")


def _conditions(group: Group, kept: list[KeptResult], diverged: bool) -> str:
    """What the numbers were had with, and how to have them again."""
    config = kept[0].config
    # Which summaries of earlier versions do not say.
    test = kept[0].summary["test"] | {"mirror_support": config.mirror_support}
    minutes = sorted({f"{each.summary['seconds'] / 60:.0f}" for each in kept}, key=int)
    skipped = sum(each.summary["skipped_steps"] for each in kept)
    steps = f"{config.iterations:,} outer steps of {config.meta_batch} tasks"
    sentences = [
        f"{config.dataset}, {task_text(config.way, config.shot)}: {steps}, {test['tasks']:,} test tasks, "
        f"{test['query']:,} queries{' per class' if config.way else ''}; {protocol_text(test)}.",
        f"Training took {' to '.join(dict.fromkeys((minutes[0], minutes[-1])))} minutes per run; {skipped} "
        f"steps were skipped{', not counting the runs that diverged' * diverged}.",
        f"Trained, and tested at the end, on {'; '.join(_hardware(kept))}.",
    ]
    if config.dataset == "omniglot" and any(each.config.method == "maml" for each in kept):
        sentences.append("Published: MAML's own paper, which splits the characters differently.")
    if (config.dataset, config.way, config.shot) in ACCURACIES:
        sentences.append("Published: PAMELA's paper, which mentions neither augmentation nor weight decay.")
    cell = kept[0].path
    first = f"{shown_path(cell.parents[1])}/{group.name}/{cell.name}/config.toml"
    again = f"pamela reproduce {group.name} --results again --runs-dir again/runs   # all of them"
    commands = [again, f"{config_command(first, kept[0].plan)}   # a single cell"]
    block = "\n".join(commands)
    return " ".join(sentences) + f"\n\n```sh\n{block}\n```"


def _hardware(kept: list[KeptResult]) -> list[str]:
    """Processor or GPU with PyTorch's version, each once."""
    entries = [entry for each in kept for entry in each.environment]
    return list(dict.fromkeys(map(computed_on_text, entries))) or ["a machine that was not recorded"]


def _figures(results: Path, figures: dict[str, _ByShot], diverged: dict[str, list[str]]) -> list[str]:
    parts = []
    for stem, figure in figures.items():
        if len({shot for line in figure.scores.values() for shot in line}) < 2:
            continue
        config = figure.config
        about = {"way": config.way, "dataset": figure.title, "tasks": config.test_tasks}
        by_shot(figure.scores, results / "figures" / stem, about)
        parts.append(f"![{figure.title}: scores by the number of support examples](figures/{stem}.png)\n")
        if diverged[stem]:
            parts.append(f"It leaves out the runs that diverged: {', '.join(diverged[stem])}.\n")
    return ["## By the number of examples\n", *parts] if parts else []


def _missing(names: list[str]) -> str:
    """Cells that nothing is kept of, by group."""
    groups: dict[str, list[str]] = {}
    for name in names:
        group, _, cell = name.partition("/")
        groups.setdefault(group, []).append(cell)
    lines = [f"- {group}: {', '.join(cells)} – `pamela reproduce {group}`" for group, cells in groups.items()]
    return "\n".join(lines) + "\n"


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table of the columns that have something in them."""
    used = [i for i, _ in enumerate(header) if any(row[i] for row in rows)]
    return markdown_table([header[i] for i in used], [[row[i] for i in used] for row in rows])
