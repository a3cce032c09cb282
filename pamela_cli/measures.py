"""What results are measured in: squared error on sine waves, accuracy on images.

How a score is compared, written and drawn is decided only here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import floor, isfinite, log10
from typing import Any

from pamela_cli.untrusted import number

SINE_QUERY_POINTS = 1000
"""Evenly spaced points of a test wave, at which the squared error is taken."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a score is, how it compares, and how it is shown.

    ``name`` is its key in documents; ``title`` what sentences call it, ``heading`` what columns and axes do.
    Where it is ``heavy_tailed``, a single task can decide the mean: a median stands beside it, and axes are
    logarithmic. Shown are ``scale`` times a score, with so many ``decimals``.
    """

    name: str
    title: str
    heading: str
    higher_is_better: bool
    heavy_tailed: bool
    scale: int
    decimals: int
    prefix: str
    unit: str
    gain_unit: str
    gain_axis: str
    loss_unit: str

    def number(self, value: float, sign: str = "") -> str:
        """A score, or a difference of two. ``sign``: "+" shows it."""
        if not isfinite(value):
            return "not finite"
        value *= self.scale
        text = f"{value:{sign}.{self.decimals}f}" if abs(value) < 1000 else f"{value:{sign}.3g}"
        return text.replace("-", sign if float(text) == 0 else "−")

    def interval(self, value: Any, ci95: Any, sign: str = "") -> str:
        """As :meth:`number`, with the half-width of the interval where there is one; empty for no number."""
        if isinstance(value, float) and not isfinite(value):
            return "not finite"
        value, ci95 = number(value), number(ci95)
        if value is None or ci95 is None:
            return "" if value is None else self.number(value, sign)
        width = self.scale * ci95
        if 0 < width < 0.5 * 10**-self.decimals and self.scale * abs(value) < 1:  # it would read 0
            finer = replace(self, decimals=1 - floor(log10(width)))
            return f"{finer.number(value, sign)} ± {finer.number(ci95)}"
        return f"{self.number(value, sign)} ± {self.number(ci95)}"

    def score(self, value: float | None, ci95: float | None = None) -> str:
        """A score by itself, as "MSE 0.2500 ± 0.0300" or "63.50 % ± 0.90"; None was not finite."""
        if value is None or not isfinite(value):
            return "not finite"
        mean, separator, half_width = self.interval(value, ci95).partition(" ± ")
        return f"{self.prefix}{mean}{self.unit}{separator}{half_width}"

    def gain(self, value: Any, ci95: Any) -> str:
        """A difference of two scores by itself, with its interval."""
        text = self.interval(value, ci95, "+")
        return f"{text}{self.gain_unit}" if number(value) is not None else text


MSE = Measure(
    name="mse", title="MSE", heading="MSE", higher_is_better=False, heavy_tailed=True, scale=1, decimals=4,
    prefix="MSE ", unit="", gain_unit="", gain_axis="drop in MSE", loss_unit="squared error",
)  # fmt: skip
ACCURACY = Measure(
    name="accuracy", title="accuracy", heading="accuracy [%]", higher_is_better=True, heavy_tailed=False,
    scale=100, decimals=2, prefix="", unit=" %", gain_unit=" points", gain_axis="percentage points",
    loss_unit="cross-entropy, nats",
)  # fmt: skip


def measure_of(way: Any) -> Measure:
    """What tasks of so many classes are scored by; sine waves have no way."""
    return MSE if way is None else ACCURACY


def measure_in(record: Mapping[str, Any]) -> Measure:
    """What a result has, by its keys."""
    return MSE if MSE.name in record else ACCURACY


def score_text(record: Mapping[str, Any]) -> str:
    """A result for people: accuracy in percent, or squared error, with its 95 % interval."""
    measure = measure_in(record)
    return measure.score(record[measure.name], record["ci95"])
