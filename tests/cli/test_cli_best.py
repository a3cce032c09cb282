"""Which checkpoint is kept: the one with the best validation; and how often the last one is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import QUICK_SINE, QUICK_TINY, tensors, write_tiny_store

from pamela_cli import training
from pamela_cli.engine.checkpoint import Checkpoint
from pamela_cli.engine.evaluation import TaskScores
from pamela_cli.training import Training


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> list[Any]:
    """Validations of a run come to these scores; returns θ at each of them."""
    left, seen = list(scores), []
    judge = Training._judge

    def judged(self: Training, learner: Any, tasks: Any, *rest: Any, **how: Any) -> TaskScores:
        if how.get("every_step", True):  # the tests at the end
            return judge(self, learner, tasks, *rest, **how)
        seen.append(learner.theta.clone())
        each = np.full((tasks.count, 1), left.pop(0))
        return TaskScores(each, each)

    monkeypatch.setattr(Training, "_judge", judged)
    return seen


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.5, 0.2, 0.3], 1), ([0.5, 0.4, 0.3], 2), ([0.2, 0.5, 0.2], 0), ([np.inf, 7.0, np.nan], 1)],
)
def test_of_sine_waves_the_lowest_error_is_kept(
    pamela, here: Path, monkeypatch: pytest.MonkeyPatch, scores: list[float], best: int
) -> None:
    seen = scripted(monkeypatch, scores)
    command = [*QUICK_SINE, "--iterations", "6", "--val-every", "2", "--run", "x"]
    said = pamela(*command).ok().err
    assert_kept(here / "runs" / "x" / "best.safetensors", seen, best)
    assert said.count("validation") >= 3


@pytest.mark.parametrize(
    ("scores", "best"), [([0.2, 0.6, 0.5], 1), ([0.6, 0.5, 0.4], 0), ([0.5, 0.5, 0.2], 0)]
)
def test_of_images_the_highest_accuracy_is_kept(
    pamela, here: Path, monkeypatch: pytest.MonkeyPatch, scores: list[float], best: int
) -> None:
    write_tiny_store(here / "data" / "tiny.h5")
    seen = scripted(monkeypatch, scores)
    pamela(*QUICK_TINY, "--iterations", "6", "--val-every", "2", "--run", "x").ok()
    assert_kept(here / "runs" / "x" / "best.safetensors", seen, best)


def assert_kept(path: Path, seen: list[Any], best: int) -> None:
    """The file has θ as it was at that validation, and at no other."""
    kept = {name: data for name, (_, _, data) in tensors(path).items() if name.startswith("theta")}
    numbers = np.sort(np.frombuffer(b"".join(kept.values()), np.float32))
    same = [np.array_equal(numbers, np.sort(theta.numpy())) for theta in seen]
    assert same == [number == best for number in range(len(seen))]


LONGER = [*QUICK_SINE, "--iterations", "6", "--val-every", "2"]


def test_a_best_checkpoint_that_was_not_written_in_time_is_made_from_the_last(
    pamela, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two files of a validation; resumed where nothing rounds as it did here."""
    scripted(monkeypatch, [0.5, 0.4, 0.3])
    pamela(*LONGER, "--run", "whole").ok()
    whole = here / "runs" / "whole" / "best.safetensors"
    write = Checkpoint.write
    scripted(monkeypatch, [0.5, 0.4])

    def killed(self: Checkpoint, path: Path) -> None:
        if path.name == "best.safetensors" and self.progress["step"] == 4:
            raise OSError(5, "killed", str(path))
        write(self, path)

    with monkeypatch.context() as at_first:
        at_first.setattr(Checkpoint, "write", killed)
        assert pamela(*LONGER, "--run", "x").code == 1
    scripted(monkeypatch, [0.6])
    pamela("meta-train", "--run", "x", "--resume").ok()
    kept = Checkpoint.read(here / "runs" / "x" / "best.safetensors")
    assert kept.progress["step"] == 4
    assert Checkpoint.read(whole).progress["step"] == 6


@pytest.mark.parametrize("later", [False, True])
def test_a_best_checkpoint_that_was_not_chosen_is_not_tested(
    pamela, here: Path, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    """One of another run, or of a course of this one that a resumption gave up."""
    scripted(monkeypatch, [0.2, 0.5, 0.6])
    pamela(*LONGER, "--run", "x").ok()
    folder = here / "runs" / "x"
    other = Checkpoint.read(folder / "best.safetensors")
    other.progress["step"] = 6 if later else 1
    other.write(folder / "best.safetensors")
    (folder / "summary.json").unlink()
    said = pamela("meta-train", "--run", "x", "--resume")
    assert said.code == 1
    assert "best.safetensors is not the checkpoint that validation chose, of step 2" in said.err
    assert not (folder / "summary.json").exists()


def test_a_best_checkpoint_of_an_earlier_step_that_is_lost(
    pamela, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to do is said, and helps."""
    scripted(monkeypatch, [0.2, 0.5, 0.6])
    pamela(*LONGER, "--run", "x").ok()
    folder = here / "runs" / "x"
    best, resume = folder / "best.safetensors", ["meta-train", "--run", "x", "--resume"]
    expected = best.read_bytes()
    best.write_bytes(b"odd")
    (folder / "summary.json").unlink()
    pamela(*resume, "-q").error(1, "x/best.safetensors", "delete last.safetensors and previous.safetensors")
    for name in ("last", "previous"):
        (folder / f"{name}.safetensors").unlink()
    scripted(monkeypatch, [0.2, 0.5, 0.6])
    pamela(*resume).ok()
    assert best.read_bytes() == expected


def test_the_last_checkpoint_is_written_every_thirty_seconds(
    pamela, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock by which every step takes seven seconds."""
    clock, steps = [0.0], []
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    update, write = Training._save_when_due, training.save

    def due(self: Training) -> None:
        clock[0] += 7
        update(self)

    monkeypatch.setattr(Training, "_save_when_due", due)
    monkeypatch.setattr(training, "save", lambda *what: steps.append(what[1].step) or write(*what))
    pamela(*QUICK_SINE, "--iterations", "21", "--val-every", "100", "--run", "x").ok()
    assert steps == [5, 10, 15, 20, 21]  # after 35 seconds each, and at the end


def test_what_was_gained_since_the_validation_before_is_said(pamela, monkeypatch) -> None:
    scripted(monkeypatch, [0.5, 0.25, 0.375])
    said = pamela(*LONGER, "--run", "x").ok().err
    assert "step 4: validation MSE 0.2500 ± 0.0000 on 4 tasks; +0.2500 ± 0.0000 since step 2" in said
    assert "step 6: validation MSE 0.3750 ± 0.0000 on 4 tasks; −0.1250 ± 0.0000 since step 4" in said
