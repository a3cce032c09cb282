"""Scores that are not finite, as of a method that diverges on a test wave: tables say so in words."""

from __future__ import annotations

from math import inf, nan
from typing import Any

from pamela_cli.display.ablations import FORMATS, as_markdown

ROW: dict[str, Any] = {
    "variant": "q", "label": "+Q", "skip_interval": None, "steps": 5, "iterations": 20, "status": "done",
    "failures": {}, "seed_spread": None, "gain_over_q": None, "gain_over_q_ci95": None, "paper_gain": None,
}  # fmt: skip


def document(*rows: dict[str, Any]) -> dict[str, Any]:
    shared = {"dataset": "sine", "way": None, "shot": 10, "query": 10, "tasks": 4, "seeds": [0]}
    return {**shared, "iterations": 20, "norm_stats": None, "vary": "variant", "rows": list(rows)}


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
