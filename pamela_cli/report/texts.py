"""Scores in words and figures, as tables of a page have them."""

from __future__ import annotations

from math import isfinite
from typing import Any

from pamela_cli import results
from pamela_cli.untrusted import number


def score_number(value: float, name: str, sign: str = "") -> str:
    """As :func:`pamela_cli.results.score_number`, with the minus that print has."""
    return results.score_number(value, name, sign).replace("-", "−")


def gain_text(gain: Any, ci95: Any, name: str) -> str:
    """A difference of two scores with its interval; of accuracies in points."""
    text = with_interval(gain, ci95, name, "+")
    return f"{text} points" if name == "accuracy" and number(gain) is not None else text


def with_interval(value: Any, ci95: Any, name: str, sign: str = "") -> str:
    """A score with the half-width of its interval where it has one; empty where there is no score."""
    if isinstance(value, float) and not isfinite(value):
        return "not finite"
    return results.with_interval(number(value), number(ci95), name, sign).replace("-", "−")
