"""The figures of a report: rebuilt from run folders, without training."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pamela_cli.console import Console
from pamela_cli.display.ablation_figures import convergence
from pamela_cli.display.figures import loss_by_update, run_title, training_curves
from pamela_cli.display.trends import Trends, draw_trends
from pamela_cli.engine.checkpoint import CheckpointError
from pamela_cli.errors import PamelaError
from pamela_cli.report.page import Block, Note, Picture
from pamela_cli.report.reading import ReadRun
from pamela_cli.report.rerun import shown_path, without_places
from pamela_cli.results import Document
from pamela_cli.untrusted import on_one_line

_MOST_PICTURES = 24
_LABEL = 48
"""Characters of a name in a figure."""
_MOST_BYTES = 8 << 20
_PNG = b"\x89PNG\r\n\x1a\n"

KNOWN = {
    "fitted-waves": "Test waves, with the curve fitted after each inner update.",
    "loss-by-update-test": "Query loss after each inner update on test tasks, as last evaluated.",
    "loss-by-update-val": "Query loss after each inner update on validation tasks, as last evaluated.",
    "loss-by-update-train": "Query loss after each inner update on training tasks, as last evaluated.",
    "dissection": "Score of each variant, and its gain over MAML on the same tasks, with 95 % intervals.",
    "by-updates": "Test score by the number of inner updates that a method was trained with.",
    "by-shot": "Test score by the number of support examples.",
    "convergence": "Training and validation score by outer step.",
    "loss-by-update": "Query loss after each inner update: mean and standard deviation over test tasks.",
    "fits-of-methods": "Test waves, with the curve that each method fitted after its last update.",
    "fits-by-update": "Test waves, with the curve fitted after each inner update.",
}
"""Captions of the figures that other commands draw, by their names."""

_APART = {
    "loss-by-update-": "Query loss after each inner update",
    "fitted-waves-": "Waves, with the curve fitted after each inner update",
}


class Drawer:
    """Draws figures into a folder, or, where that may not be written to, into one that is thrown away."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder, self._console = folder, console

    def draw(self, name: str, caption: str, alt: str, drawing: Callable[[Path], Path | None]) -> list[Block]:
        """What ``drawing`` makes of a path without suffix, as a block; none where it draws nothing."""
        try:
            with warnings.catch_warnings():
                # A curve of one task is no news for the user.
                warnings.simplefilter("ignore")
                return self._drawn(name, caption, alt, drawing)
        except (CheckpointError, PamelaError, ValueError, ArithmeticError) as error:
            places = self._folder.parent  # whose name may have spaces
            why = without_places(str(error).replace(str(places), shown_path(places))).rstrip(".")
            return [Note(f"The figure “{name}” could not be drawn: {why}.", pressing=True)]

    def _drawn(
        self, name: str, caption: str, alt: str, drawing: Callable[[Path], Path | None]
    ) -> list[Block]:
        try:
            path = drawing(self._folder / name)
            return [Picture.read(path, caption, alt)] if path else []
        except OSError as error:
            self._console.detail(f"figures cannot be kept in {self._folder}: {error.strerror}")
        with tempfile.TemporaryDirectory() as elsewhere:
            path = drawing(Path(elsewhere) / name)
            return [Picture.read(path, caption, alt)] if path else []


def run_figures(run: ReadRun, console: Console) -> list[Block]:
    """All figures of a run: those that its folder has the numbers for, then others that lie in it."""
    drawer = Drawer(run.folder.figures, console)
    config = replace(run.config, dataset=on_one_line(run.config.dataset or "", _LABEL))
    title, score = run_title(config), config.measure.title
    blocks: list[Block] = []
    if run.metrics:
        blocks += drawer.draw(
            "training",
            f"Query {score} after adaptation by outer step: training tasks and validation tasks.",
            f"Two lines: {score} on training tasks and on validation tasks, by outer step.",
            lambda stem: training_curves(run.metrics, stem, config),
        )
    else:
        blocks.append(Note("No training curve: there are no metrics yet."))
    blocks += _loss_figure(run, drawer, title)
    blocks += _trends_figure(run, drawer, title)
    return blocks + figures_there(run.folder.figures, {"training", "loss-by-update", "trends"})


def convergence_figure(runs: dict[str, ReadRun], name: str, drawer: Drawer) -> list[Block]:
    """Training and validation by outer step, for runs with the same kind of score, by their labels."""
    if not any(run.metrics for run in runs.values()):
        return []
    first = next(iter(runs.values())).config
    metrics: dict[str, list[Document]] = {}
    for i, (label, run) in enumerate(runs.items()):
        short = on_one_line(label, _LABEL)
        if short.startswith("_"):
            short = " " + short  # matplotlib leaves labels that begin so out of legends
        metrics[short if short not in metrics else f"{short} ({i + 1})"] = run.metrics
    return drawer.draw(
        name,
        "Convergence: validation (solid) and training (dashed, moving median) by outer step.",
        f"Lines of {len(runs)} runs: {first.measure.title} on training and validation tasks, by outer step.",
        lambda stem: convergence(metrics, stem, first.way, "Convergence"),
    )


def _caption(name: str) -> str:
    """Of a figure by its name, which may say how its run was judged."""
    for stem, what in _APART.items():
        if name.startswith(stem):
            return f"{what}, as last evaluated: {name.removeprefix(stem)}."
    return f"{name}."


def figures_there(folder: Path, besides: set[str]) -> list[Block]:
    """The PNG files of a folder, but those called as in ``besides``.

    What is none or huge is passed over, and links are: they might lead to what is not the run's.
    """
    if not folder.is_dir() or folder.is_symlink():
        return []
    blocks: list[Block] = []
    there = [path for path in sorted(folder.glob("*.png")) if path.stem not in besides and _is_whole(path)]
    for path in there[:_MOST_PICTURES]:
        caption = KNOWN.get(path.stem) or _caption(path.stem)
        blocks.append(Picture.read(path, caption, caption))
    if len(there) > _MOST_PICTURES:
        blocks.append(Note(f"The first {_MOST_PICTURES} of {len(there)} figures in {folder.name}/."))
    return blocks


def _is_whole(path: Path) -> bool:
    """Whether it is a picture, and its numbers, if they are there, are in a file, too."""
    numbers = path.with_suffix(".csv")
    return _is_png(path) and (not _is_there(numbers) or _is_plain(numbers))


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()  # a link to nowhere does not exist


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size <= _MOST_BYTES


def _is_png(path: Path) -> bool:
    if not _is_plain(path):
        return False
    with path.open("rb") as file:
        head = file.read(24)  # with width and height
    return head.startswith(_PNG) and len(head) == 24


def _loss_figure(run: ReadRun, drawer: Drawer, title: str) -> list[Block]:
    names: list[str] = [split for split in ("val", "test") if split in run.scores]
    labelled = [(split, run.scores[split].scores) for split in names]
    if not labelled:
        finished = run.summary is not None
        return [Note("No loss by update: the run has no score of each task.")] if finished else []
    unit = run.config.measure.loss_unit
    return drawer.draw(
        "loss-by-update",
        "Query loss after each inner update: mean and standard deviation over the tasks.",
        "Lines with error bars: loss of the query sets by inner update, beginning before adaptation.",
        lambda stem: loss_by_update(labelled, stem, title, [run.config.steps or 0] * len(labelled), unit),
    )


def _trends_figure(run: ReadRun, drawer: Drawer, title: str) -> list[Block]:
    if not run.folder.best.is_file():
        return [Note("No learned trends yet: the run has not been validated.")]
    drawn = drawer.draw(
        "trends",
        "What was learned besides θ, at the best validation. Q: the preconditioner, by layer and inner "
        "update, with a mark where it started. P: the gradient-skip connections, by layer.",
        "Heat maps and lines: learned Q by layer and inner update, and learned P by layer and connection.",
        lambda stem: draw_trends(Trends.read(run.config, run.folder.best), stem, title),
    )
    return drawn or [Note("No learned trends: the method learns θ alone.")]
