"""What the methods cost, as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pamela_cli.display.complexity import Row, complexity_title
from pamela_cli.display.figures import COLOURS, STYLE, save
from pamela_cli.methods import METHODS

STYLES: dict[str, Any] = {
    "second": {"color": COLOURS[0], "label": "second order"},
    "first": {"color": COLOURS[5], "label": "first order"},
    "any": {"color": "#999999", "label": "testing (both orders)"},
}
NUMBERS: dict[str, Any] = {
    "theta": {"color": COLOURS[2], "label": "numbers in θ"},
    "q": {"color": COLOURS[4], "label": "numbers in Q"},
}
PAPER: Any = {"marker": "D", "color": COLOURS[1], "markersize": 4, "linestyle": "none", "zorder": 4}
SAMPLE: Any = {"marker": "o", "color": "black", "markersize": 2, "linestyle": "none", "zorder": 3}
WARMUP: Any = {"marker": "x", "color": "black", "markersize": 4, "linestyle": "none", "zorder": 3}


def complexity_figure(document: dict[str, Any], stem: Path) -> Path:
    """Six panels of bars: meta-parameters, times, memory and operations; returns the PNG's path."""
    rows: list[Row] = document["rows"]
    # Testing does not depend on the order: one bar a method.
    tests = [row | {"order": "any"} for row in rows if row["order"] == "second"]
    titles = [METHODS[row["method"]].title for row in tests]
    with mpl.rc_context({**STYLE, "axes.grid.axis": "x", "axes.axisbelow": True}):
        figure = Figure(figsize=(8.4, 1.9 + 0.7 * len(titles)), layout="constrained")
        panels = figure.subplots(2, 3, sharey=True)
        _meta_parameters(panels[0, 0], tests)
        _times(panels[0, 1], rows, "train")
        _times(panels[0, 2], tests, "test")
        _bars(panels[1, 0], rows, "peak_memory_bytes", 2**20)
        _bars(panels[1, 1], rows, "train_flops", 1e9)
        _bars(panels[1, 2], tests, "test_flops", 1e9)
        _name_axes(panels, titles)
        _explain(figure, papers=any(row["paper"] for row in rows))
        figure.suptitle(complexity_title(document), fontsize=9)
        header = [key for key in rows[0] if key not in ("paper", "train_ms_samples", "test_ms_samples")]
        return save(figure, stem, header, [[row[key] for key in header] for row in rows])


def _places(rows: list[Row]) -> tuple[list[float], float]:
    """Where the bars of the rows lie, method by method, and how high they are."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    shift = {"second": -0.2, "first": 0.2, "any": 0.0}
    height = 0.38 if len(rows) > len(methods) else 0.6
    return [methods.index(row["method"]) + shift[row["order"]] for row in rows], height


def _bars(axes: Axes, rows: list[Row], key: str, unit: float) -> None:
    places, height = _places(rows)
    for order, style in STYLES.items():
        found = [(y, row[key]) for y, row in zip(places, rows, strict=True) if row["order"] == order]
        if found:
            y, values = zip(*found, strict=True)
            # What could not be measured has no bar.
            widths = [np.nan if value is None else value / unit for value in values]
            axes.barh(y, widths, height, **style)


def _times(axes: Axes, rows: list[Row], what: str) -> None:
    """Medians, with every repetition, the warm-up, and the paper's time on its own machine."""
    _bars(axes, rows, f"{what}_ms", 1)
    for y, row in zip(_places(rows)[0], rows, strict=True):
        samples = row[f"{what}_ms_samples"]
        axes.plot(samples, [y] * len(samples), **SAMPLE)
        axes.plot(row[f"{what}_ms_warmup"], y, **WARMUP)
        if row["paper"]:
            axes.plot(row["paper"][f"{what}_ms"], y, **PAPER)


def _meta_parameters(axes: Axes, rows: list[Row]) -> None:
    places, height = _places(rows)
    start = np.zeros(len(rows))
    # The numbers of P are too few to be seen.
    for key, style in NUMBERS.items():
        numbers = np.array([row[key] for row in rows]) / 1000
        axes.barh(places, numbers, height, start, **style)
        start = start + numbers
    for y, row in zip(places, rows, strict=True):
        if row["paper"]:
            axes.plot(row["paper"]["parameters"] / 1000, y, **PAPER)


def _name_axes(panels: Any, titles: list[str]) -> None:
    names = (
        "meta-parameters [thousands]",
        "training time [ms per task]",
        "testing time [ms per task]",
        "peak memory of training [MiB]",
        "training [GFLOP per task]",
        "testing [GFLOP per task]",
    )
    for axes, name in zip(panels.flat, names, strict=True):
        axes.set_xlabel(name)
        axes.use_sticky_edges = False
        axes.set_xlim(left=0)
    panels[0, 0].set_yticks(range(len(titles)), titles)
    panels[0, 0].invert_yaxis()


def _explain(figure: Figure, papers: bool) -> None:
    """One legend for all panels."""
    keys: list[Artist] = [Patch(**style) for style in (*NUMBERS.values(), *STYLES.values())]
    keys += [Line2D([], [], **SAMPLE, label="repetition"), Line2D([], [], **WARMUP, label="warm-up")]
    if papers:
        keys.append(Line2D([], [], **PAPER, label="the paper, on hardware it does not name"))
    figure.legend(handles=keys, loc="outside lower center", ncols=4, fontsize=7)
