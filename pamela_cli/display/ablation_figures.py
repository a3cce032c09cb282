"""Figures of ablations (paper figures 4 and 5): drawn from scores and metrics, which the callers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pamela_cli.display.figures import STYLE, line_style, moving_median, plain_log_axis, save
from pamela_cli.engine.intervals import Floats
from pamela_cli.measures import measure_of
from pamela_cli.methods import makes_one_update
from pamela_cli.results import Document


def dissection(document: Document, stem: Path, title: str) -> Path:
    """Score and paired gain over MAML of each variant, with 95 % intervals (paper figure 5, right)."""
    measure = measure_of(document["way"])
    rows = [row for row in document["rows"] if row[measure.name] is not None and row["status"] != "equal"]
    several = len({row["steps"] for row in rows if not makes_one_update(row["variant"])}) > 1
    labels = [f"{row['label']}, n = {row['steps']}" if several else row["label"] for row in rows]
    places = np.arange(len(rows))[::-1]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 1.1 + 0.3 * len(rows)), layout="constrained")
        score, gain = figure.subplots(1, 2, sharey=True)
        for place, row in zip(places, rows, strict=True):
            colour = line_style(0, row["label"])["color"]
            _interval(score, measure.scale, row[measure.name], row["ci95"], place, colour)
            for value in row["seed_scores"].values() if len(row["seed_scores"]) > 1 else ():
                score.plot(measure.scale * value, place, "|", color=colour, markersize=8)
            if row["gain"] is not None:
                _interval(gain, measure.scale, row["gain"], row["gain_ci95"], place, colour)
        gain.axvline(0, color="black", linewidth=0.8)
        score.set_yticks(places, labels)
        score.set_ylim(-0.6, len(rows) - 0.4)
        score.set_xlabel(f"test {measure.heading}")
        gain.set_xlabel(f"gain over MAML [{measure.gain_axis}]")
        for axes in (score, gain):
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.grid(axis="y", visible=False)
        ticks = "; ticks: single seeds" if len(document["seeds"]) > 1 else ""
        figure.suptitle(f"{title} (95 % intervals over tasks{ticks})", fontsize=9)
        keys = ["label", "steps", measure.name, "ci95", "gain", "gain_ci95"]
        return save(figure, stem, keys, [[row[key] for key in keys] for row in rows])


def _interval(axes: Axes, scale: float, mean: float, ci95: float, place: float, colour: str) -> None:
    axes.errorbar(
        scale * mean, place, xerr=scale * ci95, color=colour, marker="o", markersize=4, capsize=2.5,
        linewidth=1.2,
    )  # fmt: skip


def by_updates(document: Document, stem: Path, title: str) -> Path:
    """Score by the number of updates that a method was trained with (``--vary steps``)."""
    measure = measure_of(document["way"])
    lines: dict[str, list[Document]] = {}
    for row in document["rows"]:
        scored = row[measure.name] is not None and row["status"] != "equal"
        if scored and not makes_one_update(row["variant"]):
            lines.setdefault(row["label"], []).append(row)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5, 3.5), layout="constrained")
        axes = figure.add_subplot()
        for i, (label, rows) in enumerate(lines.items()):
            x, y, ci95 = np.array([[row["steps"], row[measure.name], row["ci95"]] for row in rows]).T
            axes.errorbar(
                x + 0.08 * (i - 1), measure.scale * y, measure.scale * ci95, **line_style(i, label),
                markersize=4, capsize=2, linewidth=1.2, label=label,
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("inner updates n, in training and testing")
        axes.set_ylabel(f"test {measure.heading}\n(95 % interval over tasks)")
        if measure.heavy_tailed:
            plain_log_axis(axes)
        axes.set_title(title, fontsize=9)
        figure.legend(loc="outside lower center", ncols=min(len(lines), 4))
        keys = ["label", "steps", measure.name, "ci95"]
        return save(
            figure, stem, keys, [[row[key] for key in keys] for rows in lines.values() for row in rows]
        )


def convergence(metrics: Mapping[str, Sequence[Document]], stem: Path, way: int | None, title: str) -> Path:
    """Training (broken) and validation score (solid) by outer step (paper figure 5, middle).

    ``metrics`` has the lines of metrics.jsonl of a run by its label.
    """
    measure = measure_of(way)
    rows: list[list[Any]] = []
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for i, (label, lines) in enumerate(metrics.items()):
            train, val = (
                [(line["step"], line[key]) for line in lines if line.get(key) is not None]
                for key in (measure.name, f"val_{measure.name}")
            )
            style = line_style(i, label)
            if train:
                x, y = np.array(train, float).T
                places, smooth = moving_median(y, max(1, len(y) // 20))
                axes.plot(
                    x[places], measure.scale * smooth, color=style["color"], linestyle=(0, (3, 2)),
                    linewidth=0.8, label=None if val else label,  # else its validation is named
                )  # fmt: skip
            if val:
                x, y = np.array(val, float).T
                axes.plot(
                    x, measure.scale * y, **style, markersize=3.5, linewidth=1.4,
                    markevery=max(1, len(x) // 20), label=label,
                )  # fmt: skip
            rows += [[label, "train", *pair] for pair in train] + [
                [label, "validation", *pair] for pair in val
            ]
        axes.plot([], [], color="#555555", linestyle=(0, (3, 2)), linewidth=0.8, label="training tasks")
        if measure.heavy_tailed:
            plain_log_axis(axes)
        axes.set_xlabel("outer step")
        axes.set_ylabel(measure.heading)
        axes.set_title(f"{title}\nvalidation (solid) and training (dashed, moving median)", fontsize=9)
        figure.legend(loc="outside lower center", ncols=2, fontsize=7)
        return save(figure, stem, ["variant", "tasks", "outer step", measure.name], rows)


def by_shot(scores: Mapping[str, Mapping[int, tuple[float, float]]], stem: Path, document: Document) -> Path:
    """Score by the number of support points K (paper figure 4, right): (mean, ci95) by label and K."""
    measure = measure_of(document["way"])
    shots = sorted({shot for line in scores.values() for shot in line})
    rows: list[list[Any]] = []
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5, 3.4), layout="constrained")
        axes = figure.add_subplot()
        # Accuracies are far from zero, where bars begin: they are points.
        as_bars = not measure.higher_is_better
        width = (0.8 if as_bars else 0.3) / len(scores)
        for i, (label, line) in enumerate(scores.items()):
            x = np.array([shots.index(shot) for shot in line]) + width * (i - (len(scores) - 1) / 2)
            y, ci95 = np.array(list(line.values())).T * measure.scale
            style = line_style(i, label)
            if as_bars:
                axes.bar(x, y, 0.9 * width, color=style["color"], label=label)
                axes.errorbar(x, y, ci95, fmt="none", color="black", capsize=2, linewidth=0.8)
            else:
                axes.errorbar(x, y, ci95, **style, linestyle="none", markersize=5, capsize=2, label=label)
            rows += [[label, shot, *pair] for shot, pair in line.items()]
        axes.set_xticks(range(len(shots)), [str(shot) for shot in shots])
        if not as_bars:
            axes.set_xlim(-0.5, len(shots) - 0.5)
        axes.grid(axis="x", visible=False)
        axes.set_axisbelow(True)
        axes.set_xlabel("support points K" if document["way"] is None else "shots")
        axes.set_ylabel(f"test {measure.heading} (95 % interval)")
        axes.set_title(f"{document['dataset']}, {document['tasks']:,} test tasks", fontsize=9, wrap=True)
        # Beside the bars there is no room that is free whatever they show.
        figure.legend(loc="outside lower center", ncols=min(len(scores), 4), fontsize=8)
        return save(figure, stem, ["variant", "shot", f"mean {measure.name}", "ci95"], rows)


def method_fits(
    support: tuple[Floats, Floats], truth: tuple[Floats, Floats], fits: Mapping[str, Floats], stem: Path
) -> Path:
    """Sine waves with the curve of each method after its last update (paper figure 4, left).

    ``support`` x, y (waves, K); ``truth`` x, y (waves, points); ``fits`` (waves, points) by label.
    """
    waves = len(truth[0])
    dashes: list[Any] = [(0, (1, 1)), (0, (4, 1.5)), (0, (4, 1, 1, 1)), "-", "-", "-", "-"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * waves, 2.9), layout="constrained")
        for wave, axes in enumerate(figure.subplots(1, waves, squeeze=False)[0]):
            axes.plot(
                truth[0][wave], truth[1][wave], color="black", linewidth=3, alpha=0.25, label="true wave"
            )
            for i, (label, fit) in enumerate(fits.items()):
                colour, dash = line_style(i, label)["color"], dashes[i % len(dashes)]
                axes.plot(truth[0][wave], fit[wave], color=colour, linestyle=dash, linewidth=1.4, label=label)
            axes.plot(support[0][wave], support[1][wave], "o", color="black", markersize=4, label="support")
            axes.set_xlabel("x")
            if wave == 0:
                axes.set_ylabel("y")
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=7)
        rows: list[list[Any]] = []
        for wave in range(waves):
            series = (truth[0][wave], truth[1][wave], *(fit[wave] for fit in fits.values()))
            rows += [[wave, *values] for values in zip(*series, strict=True)]
        return save(figure, stem, ["wave", "x", "y", *fits], rows)
