"""What was measured, as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.measures import Measure
from benchmarks.tables import Row, by_setting, setting_title
from pamela_cli.display.figures import COLOURS, STYLE, line_style, plain_log_axis, save

PANELS = {
    "train_ms": ("training [ms per task]", 1.0),
    "test_ms": ("testing [ms per task]", 1.0),
    "peak_memory_bytes": ("peak memory of training [MiB]", 2.0**20),
}


ALONG = {
    "steps": "inner updates",
    "way": "way",
    "shot": "shot",
    "image_size": "image size [pixels]",
    "meta_batch": "meta-batch [tasks]",
    "device": "device",
}
"""What a setting is called on an axis."""


def bars(rows: list[Row], varied: list[str], stem: Path) -> Path:
    """A line of panels for each setting: time of training and testing, and memory; returns the PNG's path."""
    groups = by_setting(rows, varied)
    engines = max(len(group) for group in groups)
    with mpl.rc_context({**STYLE, "axes.grid.axis": "x", "axes.axisbelow": True}):
        figure = Figure(figsize=(9, len(groups) * (0.9 + 0.28 * engines)), layout="constrained")
        panels = figure.subplots(len(groups), len(PANELS), squeeze=False, sharey="row")
        for line, group in zip(panels, groups, strict=True):
            line[1].set_title(setting_title(group[0]), fontsize=8)
            for axes, (key, (label, unit)) in zip(line, PANELS.items(), strict=True):
                _bars(axes, group, key, unit)
                axes.set_xlabel(label)
        return save(figure, stem, *_numbers(rows))


def _bars(axes: Axes, group: list[Row], key: str, unit: float) -> None:
    for y, row in enumerate(group):
        if row[key] is not None:
            axes.barh(y, row[key] / unit, color=COLOURS[1 if row["peer"] else 0])
        samples = row.get(f"{key}_samples") or []
        axes.plot(samples, [y] * len(samples), "o", color="black", markersize=2)
        limit = row.get(f"{key.removesuffix('_ms')}_limit_ms")
        if limit is not None:
            axes.axvline(limit, color=COLOURS[2], linestyle="--", linewidth=1)
    axes.set_yticks(range(len(group)), [row["title"] for row in group])
    axes.set_ylim(len(group) - 0.4, -0.6)
    axes.set_xlim(left=0)


def lines(rows: list[Row], along: str, stem: Path) -> Path:
    """Time of training and testing, and memory, as one setting grows; returns the PNG's path."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        panels = figure.subplots(1, len(PANELS))
        for axes, (key, (label, unit)) in zip(panels, PANELS.items(), strict=True):
            for i, engine in enumerate(dict.fromkeys(row["engine"] for row in rows)):
                # A logarithmic axis has no place for memory that did not grow, either.
                found = [row for row in rows if row["engine"] == engine and row[key]]
                x, y = [row[along] for row in found], [row[key] / unit for row in found]
                title = next(row["title"] for row in rows if row["engine"] == engine)
                axes.plot(x, y, **line_style(i), markersize=4, label=title,
                          linestyle="--" if i >= len(COLOURS) else "-")  # fmt: skip
            axes.set_xlabel(ALONG[along])
            axes.set_ylabel(label)
            if any(row[key] for row in rows):
                plain_log_axis(axes)
            _name_values(axes, list(dict.fromkeys(row[along] for row in rows)))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
        return save(figure, stem, *_numbers(rows))


def _name_values(axes: Axes, values: list[Any]) -> None:
    if not isinstance(values[0], str):
        axes.set_xscale("log")
        axes.set_xticks(values, [str(value) for value in values])
        axes.xaxis.set_minor_formatter(NullFormatter())


def _numbers(rows: list[Row]) -> tuple[list[str], list[list[Any]]]:
    header = list(dict.fromkeys(key for row in rows for key in row if not key.endswith("_samples")))
    return header, [[row.get(key) for key in header] for row in rows]


def measure_bars(measures: list[Measure], stem: Path) -> Path:
    """A bar for each measurement, a panel for each unit, targets as lines; returns the PNG's path."""
    units = list(dict.fromkeys(each.unit for each in measures))
    of_unit = [[each for each in measures if each.unit == unit] for unit in units]
    with mpl.rc_context({**STYLE, "axes.grid.axis": "x", "axes.axisbelow": True}):
        height = sum(0.6 + 0.35 * len(each) for each in of_unit)
        figure = Figure(figsize=(8, height), layout="constrained")
        panels = figure.subplots(len(units), 1, squeeze=False, height_ratios=[1 + len(e) for e in of_unit])
        for axes, unit, found in zip(panels[:, 0], units, of_unit, strict=True):
            for y, each in enumerate(found):
                axes.barh(y, each.median, xerr=each.spread / 2, color=COLOURS[0])
                if each.target is not None:
                    axes.plot([each.target] * 2, [y - 0.4, y + 0.4], color=COLOURS[1])
            axes.set_yticks(range(len(found)), [each.what for each in found], fontsize=7)
            axes.invert_yaxis()
            axes.set_xlabel(f"[{unit}]")
        header = ["what", "median", "spread", "unit", "target", "met"]
        return save(figure, stem, header, [[getattr(each, key) for key in header] for each in measures])
