"""A variant has one colour, and one marker, in all figures."""

from __future__ import annotations

from pamela_cli.display.figures import VARIANTS, line_style
from pamela_cli.methods import METHODS


def test_variants_have_their_colours_wherever_they_stand() -> None:
    for label in (*VARIANTS, "+Q+P²", METHODS["pamela"].title):
        assert len({line_style(i, label)["color"] for i in range(9)}) == 1
    colours = [line_style(0, label)["color"] for label in (*VARIANTS, "+Q+P¹")]
    assert len(set(colours)) == len(colours)
    assert line_style(0, "+Q+P¹¹")["marker"] == line_style(0, "+Q+P⁵")["marker"]
    labels = [*VARIANTS, *(f"+Q+P{w}" for w in "¹²³⁴")]
    assert len({line_style(i, label)["marker"] for i, label in enumerate(labels)}) == len(labels)
    for label in (*labels, METHODS["pamela"].title):
        assert len({line_style(i, label)["marker"] for i in range(9)}) == 1
    assert line_style(3, "+Q+P⁴")["color"] == line_style(0, METHODS["pamela"].title)["color"]


def test_the_names_of_runs_have_none() -> None:
    colours = [line_style(i, f"run-{i}")["color"] for i in range(7)]
    assert len(set(colours)) == 7
