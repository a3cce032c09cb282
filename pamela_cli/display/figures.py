"""Figures: drawn without a screen, readable in print and by the colour-blind."""

from __future__ import annotations

import csv
import errno
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, MaxNLocator
from numpy.typing import NDArray

from data_prep.store.atomic import atomic_path
from data_prep.thumbnails import evenly
from pamela_cli.config import Config
from pamela_cli.engine.evaluation import TaskScores
from pamela_cli.engine.intervals import Floats
from pamela_cli.results import task_text, updates_text
from pamela_cli.untrusted import printable

# Okabe and Ito's palette, told apart by the colour-blind; markers and dashes tell the lines apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
VARIANTS = {
    "MAML": ("#555555", "o"),
    "Meta-SGD": ("#999999", "s"),
    "+Q": ("#D55E00", "^"),
    "+Q shared": ("#E69F00", "D"),
    "FOMAML": ("#CC79A7", "<"),
}
"""Colour and marker of what ablations compare; the forms of +Q+P have the first colour of all."""
_OF_INTERVALS = {"¹": "P", "³": "X", "⁴": "*"}
"""Markers of +Q+P^w by w; any other w, and PAMELA itself, has the triangle."""
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    # Names of runs and datasets are shown as they are, dollar signs included.
    "text.parse_math": False,
}
_MOST_MEDIANS = 2_000
"""More places than a figure of this width can show."""

_MOST_NAMED = 12
"""Curves in a legend."""


def save(figure: Figure, stem: Path, header: list[str], rows: list[list[Any]]) -> Path:
    """Write ``stem``.png and .pdf, and the numbers as .csv; returns the PNG's path. A stem may have dots.

    Each file is whole or as it was. A link in its place is replaced, and one in place of their folder not
    followed: run folders come from anywhere. OSError if they cannot be written.
    """
    if stem.parent.is_symlink():
        raise OSError(errno.ELOOP, "it is a link, which is not followed", str(stem.parent))
    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text()))
    # Without the time of drawing: the same numbers give the same file.
    for suffix, about in ((".png", {}), (".pdf", {"CreationDate": None})):
        with (
            atomic_path(stem.with_name(stem.name + suffix), failed=_naming) as temporary,
            warnings.catch_warnings(),
        ):
            # A name in letters that the font lacks is no news for the user.
            warnings.simplefilter("ignore")
            figure.savefig(temporary, format=suffix[1:], bbox_inches="tight", metadata=about)
    numbers = atomic_path(stem.with_name(f"{stem.name}.csv"), failed=_naming)
    with numbers as temporary, temporary.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return stem.with_name(f"{stem.name}.png")


def _naming(path: Path, error: Exception) -> Exception:
    """The error with the name of the figure, not of its temporary file."""
    return OSError(error.errno, error.strerror, str(path)) if isinstance(error, OSError) else error


def training_curves(metrics: list[dict[str, Any]], stem: Path, config: Config) -> Path:
    """Score of training tasks after adaptation (with a moving median) and of validation, by outer step."""
    name, scale = config.measure.name, config.measure.scale
    train = [(m["step"], m[name]) for m in metrics if m.get(name) is not None]
    val = [(m["step"], m[f"val_{name}"], m["val_ci95"]) for m in metrics if m.get(f"val_{name}") is not None]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5, 3.5), layout="constrained")
        axes = figure.add_subplot()
        steps, raw = np.array(train).T if train else (np.empty(0), np.empty(0))
        places, smooth = moving_median(raw, max(1, len(raw) // 50))
        axes.plot(steps, scale * raw, color=COLOURS[5], linewidth=0.5, alpha=0.5)
        axes.plot(steps[places], scale * smooth, color=COLOURS[0], label="training tasks (moving median)")
        if val:
            x, y, ci = (np.array(column) for column in zip(*val, strict=True))
            axes.errorbar(
                x, scale * y, scale * ci, color=COLOURS[1], marker="o", markersize=4, capsize=2,
                label="validation tasks (95 % interval)",
            )  # fmt: skip
        if config.measure.heavy_tailed:
            plain_log_axis(axes)
        axes.set_xlabel("outer step")
        axes.set_ylabel(f"query {config.measure.heading}")
        axes.set_title(run_title(config), fontsize=9)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        rows = [["train", s, v, ""] for s, v in train] + [["validation", *row] for row in val]
        return save(figure, stem, ["tasks", "outer step", name, "ci95"], rows)


def loss_by_update(
    scores: list[tuple[str, TaskScores]], stem: Path, title: str, trained: list[int], unit: str
) -> Path:
    """Query loss after each inner update: mean, and standard deviation over tasks (paper figure 5, left)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5, 3.5), layout="constrained")
        axes = figure.add_subplot()
        rows: list[list[Any]] = []
        for i, (label, result) in enumerate(scores):
            with np.errstate(invalid="ignore", over="ignore"):
                mean, spread = result.loss.mean(0), result.loss.std(0, ddof=1)
            updates = np.arange(len(mean))
            shift = 0.06 * (i - (len(scores) - 1) / 2)
            axes.errorbar(
                updates + shift, mean, spread, **line_style(i, label), markersize=4, capsize=2,
                linewidth=1.2, elinewidth=0.8, label=label,
            )  # fmt: skip
            rows += [[label, j, m, s] for j, m, s in zip(updates, mean, spread, strict=True)]
        beyond = [n for n, (_, r) in zip(trained, scores, strict=True) if n < r.loss.shape[1] - 1]
        for n in sorted(set(beyond)):
            axes.axvline(n, color="#888888", linestyle=":", linewidth=1)
            axes.annotate(f"trained to {n}", (n, 1), (3, -2), xycoords=("data", "axes fraction"),
                          textcoords="offset points", fontsize=7, color="#555555", va="top")  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("inner update")
        axes.set_ylabel(f"query loss [{unit}]\n(mean and standard deviation over tasks)")
        axes.set_title(title, fontsize=9)
        # Below: error bars may be anywhere.
        figure.legend(loc="outside lower center", ncols=min(len(scores), 5))
        return save(figure, stem, ["run", "inner update", "mean loss", "standard deviation over tasks"], rows)


def fitted_waves(
    label: str, support: tuple[Floats, Floats], truth: tuple[Floats, Floats], fits: Floats, stem: Path
) -> Path:
    """Sine waves with the curve fitted after each inner update (paper figure 4).

    ``support`` x, y (waves, K); ``truth`` x, y (waves, points); ``fits`` (updates + 1, waves, points).
    """
    waves = len(truth[0])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * waves, 2.6))
        shades = mpl.colormaps["viridis_r"](np.linspace(0.15, 1, len(fits)))
        # A legend of more would leave no room for the waves.
        named = set(evenly(len(fits), _MOST_NAMED))
        for wave, axes in enumerate(figure.subplots(1, waves, squeeze=False)[0]):
            axes.plot(
                truth[0][wave],
                truth[1][wave],
                color="black",
                linestyle="--",
                linewidth=1.6,
                label="true wave",
            )
            for update, fit in enumerate(fits):
                last = update == len(fits) - 1
                axes.plot(truth[0][wave], fit[wave], color=shades[update], linewidth=1.6 if last else 0.8,
                          label=f"after {updates_text(update)}" if update in named else None)  # fmt: skip
            axes.plot(
                support[0][wave], support[1][wave], "o", color=COLOURS[1], markersize=4, label="support"
            )
            axes.set_xlabel("x")
            if wave == 0:
                axes.set_ylabel("y")
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=7)
        figure.suptitle(label, fontsize=9)
        figure.set_layout_engine("constrained")
        rows: list[list[Any]] = []
        for wave in range(waves):
            series = (truth[0][wave], truth[1][wave], *fits[:, wave])
            rows += [[wave, *values] for values in zip(*series, strict=True)]
        header = ["wave", "x", "y", *(f"after update {j}" for j in range(len(fits)))]
        return save(figure, stem, header, rows)


class _PlainLog(LogFormatter):
    """Labels the ticks that LogFormatter would, without its exponents: 0.6, not 6e-01."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def line_style(i: int, label: str = "") -> dict[str, Any]:
    """Colour and marker of the i-th line of a figure; those of a variant's ``label`` are the same in all."""
    if "+Q+P" in label:
        return {"color": COLOURS[0], "marker": _OF_INTERVALS.get(label.rpartition("P")[2], "v")}
    usual = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
    colour, marker = VARIANTS.get(label, usual)
    return {"color": colour, "marker": marker}


def plain_log_axis(axes: Axes) -> None:
    """Make the y axis logarithmic, with numbers as people write them."""
    axes.set_yscale("log")
    for axis_format in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis_format(_PlainLog(labelOnlyBase=False, minor_thresholds=(2, 0.5)))


def moving_median(values: Floats, width: int) -> tuple[NDArray[np.intp], Floats]:
    """Median of the last ``width`` values: single tasks that explode do not hide the rest.

    Returns the places, first and last among them and no more than a figure shows, and the median at each.
    """
    count = min(len(values), _MOST_MEDIANS)
    places = np.linspace(0, max(len(values) - 1, 0), count).round().astype(np.intp)
    return places, np.array([np.median(values[max(i + 1 - width, 0) : i + 1]) for i in places])


def run_title(config: Config) -> str:
    """What a run is about, above its figures."""
    return f"{config.method} on {config.dataset}, {task_text(config.way, config.shot)}, seed {config.seed}"
