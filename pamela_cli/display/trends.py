"""The learned trends: Q by layer and inner update, P by layer and gradient-skip connection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from pamela_cli.config import Config
from pamela_cli.display.figures import COLOURS, STYLE, line_style, save
from pamela_cli.engine.checkpoint import Checkpoint, CheckpointError
from pamela_cli.engine.intervals import Floats
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.problem import network, update_rule

PERCENTILES = (10, 90)
"""The spread over a layer's numbers that lines show."""

_NAMED_COLUMNS = 12
"""More updates or connections than these have no room for values in a heat map, and names in a legend."""

_HEADER = ["quantity", "layer", "update or connection", "mean", "p10", "p90", "numbers"]


@dataclass(frozen=True)
class Trends:
    """What a learner learned besides θ.

    ``q``: (updates, numbers) of each layer, one row where all updates share it; empty where Q is
    constant. ``p``: (connections, layers). ``connections``: (j − w, j + 1), from which θ to which.
    ``start``: the least and largest value that Q started with.
    """

    layers: tuple[str, ...]
    q: dict[str, Floats]
    p: Floats
    connections: tuple[tuple[int, int], ...]
    start: tuple[float, float]

    @classmethod
    def read(cls, config: Config, path: Path) -> Trends:
        """The trends in a run's checkpoint; :class:`CheckpointError` if it does not fit the settings."""
        rule = update_rule(config, network(config))
        return cls._named(rule, config.inner_lr, Checkpoint.read(path, rule).tensors)

    @classmethod
    def _named(cls, rule: UpdateRule, inner_lr: float, tensors: dict[str, Tensor]) -> Trends:
        layers = tuple(layer.name for layer in rule.layout.layers)
        q: dict[str, Floats] = {}
        if rule.q_shape[0]:
            sizes = rule.layout.q_sizes(rule.method.granularity)
            for layer, size in zip(layers, sizes, strict=True):
                q[layer] = _numbers(tensors, f"q.{layer}", (rule.q_shape[0], size))
        learns_p = rule.p_shape[0] > 0
        p = _numbers(tensors, "p", rule.p_shape) if learns_p else np.empty(rule.p_shape)
        skips = [(j, rule.skip_at(j)) for j in range(rule.steps)]
        connections = tuple((skip[1], j + 1) for j, skip in skips if skip is not None)
        return cls(layers, q, p, connections, rule.method.q_range or (inner_lr, inner_lr))

    @property
    def rows(self) -> list[list[Any]]:
        """The numbers of the figures: a row for each layer and update or connection."""
        rows: list[list[Any]] = []
        for layer, values in self.q.items():
            low, high = np.percentile(values, PERCENTILES, axis=1)
            for j, column in enumerate(update_names(self)):
                rows.append(["Q", layer, column, values[j].mean(), low[j], high[j], values.shape[1]])
        for k, (past, target) in enumerate(self.connections):
            name = f"θ{past} → θ{target}"
            rows += [["P", layer, name, self.p[k, i], "", "", 1] for i, layer in enumerate(self.layers)]
        return rows


def update_names(trends: Trends) -> list[str]:
    """What the rows of Q are called: the update that each is for."""
    count = len(next(iter(trends.q.values()), ()))
    return [str(j) for j in range(count)] if count > 1 else ["all"]


def draw_trends(trends: Trends, stem: Path, title: str) -> Path | None:
    """Draw Q and P as heat maps beside lines, with the numbers as CSV; None if nothing is learned.

    Returns the PNG's path.
    """
    parts = [part for part, there in ((_draw_q, trends.q), (_draw_p, trends.connections)) if there]
    if not parts:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, (1 + 0.35 * len(trends.layers)) * len(parts)))
        figure.set_layout_engine("constrained")
        axes = figure.subplots(len(parts), 2, squeeze=False)
        for part, (left, right) in zip(parts, axes, strict=True):
            part(trends, figure, left, right)
        figure.suptitle(title, fontsize=9)
        return save(figure, stem, _HEADER, trends.rows)


def _numbers(tensors: dict[str, Tensor], name: str, shape: tuple[int, ...]) -> Floats:
    tensor = tensors.get(name)
    if tensor is None or tuple(tensor.shape) != shape:
        found = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
        raise CheckpointError(f"it does not fit the run's settings: '{name}' is {found}, not {shape}")
    numbers: Floats = tensor.detach().double().cpu().numpy()
    if not np.isfinite(numbers).all():
        raise CheckpointError(f"its '{name}' has numbers that are not finite")
    return numbers


def _draw_q(trends: Trends, figure: Figure, left: Axes, right: Axes) -> None:
    means = np.array([values.mean(1) for values in trends.q.values()])
    columns = update_names(trends)
    image = _heat_map(left, means, trends.layers, columns, mpl.colormaps["cividis"], None)
    left.set_xlabel("inner update j" if len(columns) > 1 else "inner updates")
    left.set_title("Q (learning rate): mean over a layer", fontsize=9)
    bar = figure.colorbar(image, ax=left)
    low, high = trends.start
    if low < high:
        right.axhspan(low, high, color="#888888", alpha=0.2, linewidth=0, label=f"start: {low:g} to {high:g}")
    else:
        right.axhline(low, color="black", linestyle="--", linewidth=1, label=f"start: {low:g}")
        if image.norm.vmin <= low <= image.norm.vmax:
            bar.ax.axhline(low, color=COLOURS[1], linewidth=2)
    if len(columns) > 1:
        _q_by_update(trends, right)
    else:
        _q_by_layer(trends, right)
    right.set_ylabel("Q (learning rate)")
    right.set_title("mean and 10th to 90th percentile", fontsize=9)
    _legend_outside(right)


def _q_by_update(trends: Trends, axes: Axes) -> None:
    for i, (layer, values) in enumerate(trends.q.items()):
        shift = 0.08 * (i - (len(trends.q) - 1) / 2)
        axes.errorbar(
            np.arange(len(values)) + shift, values.mean(1), _spread(values), **line_style(i),
            markersize=4, capsize=2, linewidth=1.2, elinewidth=0.8, label=layer,
        )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("inner update j")


def _q_by_layer(trends: Trends, axes: Axes) -> None:
    """One Q for all updates: nothing varies but the layer."""
    for i, values in enumerate(trends.q.values()):
        axes.errorbar(
            [i], values.mean(1), _spread(values), color=COLOURS[0], marker="o", markersize=4, capsize=3
        )
    _layers_along(axes, trends.layers)


def _spread(values: Floats) -> Floats:
    """How far the percentiles lie below and above the mean of each row, (2, rows); never negative."""
    low, high = np.percentile(values, PERCENTILES, axis=1)
    mean = values.mean(1)
    return np.maximum([mean - low, high - mean], 0)


def _draw_p(trends: Trends, figure: Figure, left: Axes, right: Axes) -> None:
    names = [f"θ{_subscript(past)} → θ{_subscript(target)}" for past, target in trends.connections]
    largest = float(np.abs(trends.p).max()) or 1.0  # all zero, as P starts: any scale shows it
    image = _heat_map(left, trends.p.T, trends.layers, names, mpl.colormaps["RdBu_r"], largest)
    left.set_xlabel("gradient-skip connection")
    left.set_title("P (share of the past θ)", fontsize=9)
    figure.colorbar(image, ax=left)
    right.axhline(0, color="black", linestyle="--", linewidth=1, label="start: 0")
    for k, name in enumerate(names):
        right.plot(
            range(len(trends.layers)), trends.p[k], **line_style(k), markersize=4, linewidth=1.2,
            label=name if k < _NAMED_COLUMNS else None,
        )  # fmt: skip
    _layers_along(right, trends.layers)
    right.set_ylabel("P (share of the past θ)")
    _legend_outside(right)


def _layers_along(axes: Axes, layers: tuple[str, ...]) -> None:
    axes.set_xticks(range(len(layers)), layers, rotation=25, ha="right")
    axes.set_xlim(-0.4, len(layers) - 0.6)
    axes.set_xlabel("layer")


def _legend_outside(axes: Axes) -> None:
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))


def _heat_map(
    axes: Axes, values: Floats, rows: tuple[str, ...], columns: list[str], colours: Any, largest: float | None
) -> Any:
    """Draw values (rows, columns); around 0 as far as ``largest`` if given. Returns the image."""
    smallest = None if largest is None else -largest
    image: Any = axes.imshow(values, cmap=colours, aspect="auto", vmin=smallest, vmax=largest)
    axes.grid(visible=False)
    axes.set_yticks(range(len(rows)), rows)
    if len(columns) > _NAMED_COLUMNS:
        return image
    axes.set_xticks(range(len(columns)), columns)
    decimals = _decimals(values)
    for (row, column), value in np.ndenumerate(values):
        red, green, blue, _ = colours(image.norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        text = f"{value:.{decimals}f}".replace("-", "−")
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    return image


def _decimals(values: Floats) -> int:
    """Enough for three digits of the largest value, and up to two more to tell what colours tell apart."""
    usual = max(0, 2 - math.floor(math.log10(np.abs(values).max() or 1)))
    span = float(np.ptp(values))
    return usual if span == 0 else min(max(usual, 1 - math.floor(math.log10(span))), usual + 2)


def _subscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
