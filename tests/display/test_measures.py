"""Scores in words: their decimals, intervals and signs, and what is not finite or not there."""

from __future__ import annotations

from math import inf, nan

import pytest

from pamela_cli.config import Settings, resolve
from pamela_cli.engine.tasks import Classification, Objective, Regression
from pamela_cli.measures import ACCURACY, MSE, Measure, measure_in, measure_of, score_text

BOTH = pytest.mark.parametrize("measure", [ACCURACY, MSE], ids=lambda measure: measure.name)


@pytest.mark.parametrize(("measure", "objective"), [(ACCURACY, Classification(5)), (MSE, Regression())])
def test_the_engine_scores_by_it(measure: Measure, objective: Objective) -> None:
    assert measure.name == objective.score_name
    assert measure.higher_is_better == objective.higher_is_better


def test_which_it_is() -> None:
    assert measure_of(5) is measure_in({"accuracy": 0.5}) is ACCURACY
    assert measure_of(None) is measure_in({"mse": 0.5}) is MSE
    assert resolve([Settings({"dataset": "sine"})]).measure is MSE


@pytest.mark.parametrize("value", [nan, inf, -inf])
@BOTH
def test_what_is_not_finite_says_so(value: float, measure: Measure) -> None:
    texts = {measure.number(value), measure.number(value, "+"), measure.interval(value, nan)}
    assert texts | {measure.gain(value, value), measure.score(value, value)} == {"not finite"}
    assert score_text({measure.name: None, "ci95": None}) == "not finite"


@BOTH
def test_what_is_not_there_says_nothing(measure: Measure) -> None:
    assert measure.gain(None, None) == measure.interval(None, 0.1) == measure.interval("0.5", 0.1) == ""


def test_scores_and_gains() -> None:
    assert ACCURACY.score(0.635, 0.009) == "63.50 % ± 0.90" and ACCURACY.score(0.635) == "63.50 %"
    assert MSE.score(0.25, 0.03) == "MSE 0.2500 ± 0.0300" and MSE.score(123456.0) == "MSE 1.23e+05"
    assert ACCURACY.gain(0.01, 0.002) == "+1.00 ± 0.20 points"
    assert MSE.gain(-0.01, 0.002) == "−0.0100 ± 0.0020"


def test_an_interval_that_the_decimals_would_hide() -> None:
    assert MSE.interval(4.97e-5, 4.94e-5, "+") == "+0.000050 ± 0.000049"
    assert MSE.interval(-4.97e-5, 4.94e-5, "+") == "−0.000050 ± 0.000049"
    assert MSE.interval(0.4771, 4e-5) == "0.477100 ± 0.000040"
    assert ACCURACY.interval(0.0001, 0.00004, "+") == "+0.0100 ± 0.0040"
    assert MSE.interval(0.25, 0.03) == "0.2500 ± 0.0300" and MSE.interval(0.25, None) == "0.2500"


@BOTH
def test_what_rounds_to_zero_has_no_minus(measure: Measure) -> None:
    zero = f"{0:.{measure.decimals}f}"
    assert measure.number(-1e-9, "+") == f"+{zero}" and measure.number(-1e-9) == zero
