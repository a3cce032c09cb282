"""Scores that are not finite, as of a method that diverges on a test wave: tables say so in words."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from pamela_cli.report.ablations import FORMATS, as_markdown
from pamela_cli.results import score_number, with_interval

ROW: dict[str, Any] = {
    "variant": "q", "label": "+Q", "skip_interval": None, "steps": 5, "iterations": 20, "status": "done",
    "failures": {}, "seed_spread": None, "gain_over_q": None, "gain_over_q_ci95": None, "paper_gain": None,
}  # fmt: skip


def document(*rows: dict[str, Any]) -> dict[str, Any]:
    shared = {"dataset": "sine", "way": None, "shot": 10, "query": 10, "tasks": 4, "seeds": [0]}
    return {**shared, "iterations": 20, "norm_stats": None, "vary": "variant", "rows": list(rows)}


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_numbers(value: float) -> None:
    assert score_number(value, "mse") == score_number(value, "accuracy", "+") == "not finite"


def test_an_interval_that_four_decimals_would_hide() -> None:
    assert with_interval(4.97e-5, 4.94e-5, "mse", "+") == "+0.000050 ± 0.000049"
    assert with_interval(0.4771, 4e-5, "mse") == "0.477100 ± 0.000040"
    assert with_interval(0.25, 0.03, "mse") == "0.2500 ± 0.0300"
    assert with_interval(0.25, None, "mse") == "0.2500" and with_interval(None, None, "mse") == ""


def test_tables_of_ablations() -> None:
    good = ROW | {
        "mse": 0.5,
        "ci95": 0.1,
        "seed_scores": {"0": 0.5},
        "gain": None,
        "gain_ci95": None,
        "runs": ["a"],
    }
    bad = ROW | {
        "mse": inf,
        "ci95": nan,
        "seed_scores": {"0": inf},
        "gain": -inf,
        "gain_ci95": nan,
        "runs": ["b"],
    }
    text = as_markdown(document(good, bad))
    (line,) = [line for line in text.splitlines() if "not finite" in line]
    assert line.count("not finite") == 2 and "nan" not in text and "±" not in line
    for render in FORMATS.values():
        render(document(good, bad))
