"""Outer steps that are skipped because their meta-gradient is not finite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli_support import QUICK_SINE, metrics

from pamela_cli.engine.outer_loop import OuterLoop, StepMetrics


def failing(monkeypatch: pytest.MonkeyPatch, when: Callable[[int], bool]) -> None:
    """The steps for which ``when`` holds are skipped."""
    advance = OuterLoop._advance

    def advanced(self: OuterLoop, source: object) -> StepMetrics:
        found, lost = advance(self, source), torch.tensor(torch.nan)
        return StepMetrics(lost, lost, lost, torch.tensor(1.0)) if when(self.step) else found

    monkeypatch.setattr(OuterLoop, "_advance", advanced)


def test_a_skipped_step_leaves_the_others_their_numbers(pamela, here: Path, monkeypatch) -> None:
    pamela(*QUICK_SINE, "--run", "whole").ok()
    failing(monkeypatch, lambda step: step == 3)
    pamela(*QUICK_SINE, "--run", "one-less").ok()
    whole, less = (
        [line for line in metrics(here / "runs" / run) if "skipped" in line] for run in ("whole", "one-less")
    )
    assert [line["skipped"] for line in less] == [1] + [0] * (len(less) - 1)
    for name in ("loss", "mse", "gradient_norm"):
        assert less[0][name] == pytest.approx(whole[0][name], rel=0.5) and less[0][name] != whole[0][name]


def test_skipped_steps_are_counted_over_the_whole_run(pamela, monkeypatch) -> None:
    failing(monkeypatch, lambda step: step in (3, 4, 15))
    document = pamela(*QUICK_SINE, "--iterations", "30", "--run", "x", "--json").ok().document
    assert document["skipped_steps"] == 3


def test_a_run_that_diverges_late_is_ended(pamela, monkeypatch) -> None:
    failing(monkeypatch, lambda step: step > 100)
    late = [*QUICK_SINE, "--iterations", "400", "--val-every", "400", "--run", "late", "-q"]
    pamela(*late).error(1, "60 of the last 100 meta-gradients before step 160 were not finite")
