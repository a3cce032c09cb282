"""Scores in words: what is not finite says so, and what is not there says nothing."""

from __future__ import annotations

from math import inf, nan
from pathlib import Path

import pytest

from pamela_cli.config import Layer, resolve
from pamela_cli.pages.again import ablate_command
from pamela_cli.report.texts import gain_text, with_interval


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("name", ["accuracy", "mse"])
def test_what_is_not_finite_says_so(value: float, name: str) -> None:
    assert gain_text(value, value, name) == "not finite"
    assert with_interval(value, nan, name) == "not finite"


def test_what_is_not_there_says_nothing() -> None:
    assert gain_text(None, None, "mse") == with_interval(None, None, "accuracy") == ""
    assert gain_text(0.01, 0.002, "accuracy") == "+1.00 ± 0.20 points"
    assert gain_text(-0.01, 0.002, "mse") == "−0.0100 ± 0.0020"


@pytest.mark.parametrize("steps", [3, 5, 10])
def test_an_ablation_along_the_updates_goes_as_far_again(tmp_path: Path, steps: int) -> None:
    config = resolve([Layer({"dataset": "sine", "method": "maml", "steps": steps})])
    words = ablate_command(config, "steps", 2, [0], tmp_path).split()
    assert words[words.index("--steps") + 1] == str(steps)
