"""Means over tasks with their 95 % intervals, unpaired and paired."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mean_ci95(values: Floats) -> tuple[float, float]:
    """Mean and the half-width 1.96·s/√n of its 95 % interval; s has n − 1 degrees of freedom."""
    if len(values) < 2:
        return float(values.mean()), float("nan")
    # Scores that are not finite have no interval; divergence is reported elsewhere.
    with np.errstate(invalid="ignore", over="ignore"):
        return float(values.mean()), float(1.96 * values.std(ddof=1) / sqrt(len(values)))


def proportion_interval(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval for the proportion ``hits``/``count``: never empty, and within 0…1."""
    z = 1.96
    share, scale = hits / count, 1 + z * z / count
    centre = (share + z * z / (2 * count)) / scale
    half = z / scale * sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_advantage(a: Floats, b: Floats, higher_is_better: bool) -> tuple[float, float]:
    """How much better ``a`` is than ``b`` on the same tasks, with the interval of the difference."""
    with np.errstate(invalid="ignore"):
        gains = a - b if higher_is_better else b - a
    return mean_ci95(gains)
