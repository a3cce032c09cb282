"""What `--resume` takes, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from cli_support import snapshot, write_tiny_store


def test_finished_run_prints_its_summary(pamela, own_world: Path) -> None:
    before = snapshot(own_world)
    result = pamela("meta-train", "--run", "tiny-a", "--resume", "--json").ok()
    assert result.document == json.loads((own_world / "tiny-a.json").read_text())
    assert "finished" in result.err
    assert " % ± " in pamela("meta-train", "--run", "tiny-a", "--resume", "-q").ok().out
    assert snapshot(own_world) == before


def test_finished_run_whose_result_is_not_finite(pamela, own_world: Path) -> None:
    """Numbers that are not finite are null in summary.json; the table must show them all the same."""
    file = own_world / "runs/sine-a/summary.json"
    summary = json.loads(file.read_text())
    summary["test"] |= {"mse": None, "ci95": None, "median": None}
    file.write_text(json.dumps(summary))
    pamela("meta-train", "--run", "sine-a", "--resume").ok()


@pytest.mark.parametrize("fault", ["gone", "cut"])
def test_finished_run_without_its_best_checkpoint(pamela, own_world: Path, fault: str) -> None:
    """What `evaluate` says leads to what can be done, and that gives the same result."""
    run = own_world / "runs" / "tiny-a"
    before = json.loads((run / "summary.json").read_text())
    best = run / "best.safetensors"
    kept = best.read_bytes()
    best.unlink()
    if fault == "cut":
        best.write_bytes(kept[:100])
    pamela("evaluate", "tiny-a").error(1, "pamela meta-train --run runs/tiny-a --resume")
    again = ["meta-train", "--run", "tiny-a", "--resume"]
    names = ["summary.json", "last.safetensors", "previous.safetensors"]
    pamela(*again).error(1, "is finished, but", f"delete its {', '.join(names)}")
    for name in names:
        (run / name).unlink(missing_ok=True)
    pamela(*again).ok()
    assert best.read_bytes() == kept
    assert json.loads((run / "summary.json").read_text())["test"] == before["test"]


def test_resume_with_the_same_flags(pamela, own_world: Path) -> None:
    flags = ["--dataset", "sine", "--iterations", 40, "--width", 8, "--device", "cpu", "--seed", 0]
    pamela("meta-train", *flags, "--run", "sine-a", "--resume", "-q", "--json").ok()


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("flag", "value"),
    [("--iterations", "80"), ("--inner-lr", "0.5"), ("--method", "maml"), ("--way", "3"), ("--seed", "1")],
)
def test_resume_with_a_flag_that_differs(pamela, own_world: Path, flag: str, value: str, finished) -> None:
    if not finished:
        (own_world / "runs/tiny-a/summary.json").unlink()
    before = snapshot(own_world)
    pamela("meta-train", "--run", "tiny-a", "--resume", flag, value).error(2, flag, value)
    assert snapshot(own_world) == before


def test_flags_are_told_as_they_are_typed(pamela, own_world: Path) -> None:
    resume = ("meta-train", "--run", "tiny-a", "--resume")
    pamela(*resume, "--flip").error(2, "--flip differs from the run, which has --no-flip; leave it out")
    pamela(*resume, "--crop", 2).error(2, "--crop 2 differs from the run, which has --crop 0; leave it out")
    sine = ("meta-train", "--run", "sine-a", "--resume")
    pamela(*sine, "--way", 5).error(2, "--way 5 differs from the run, which has none; leave it out")


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("named", ["data/other.h5", "sine"])
def test_resume_on_another_dataset(pamela, own_world: Path, named: str, finished: bool) -> None:
    """--dataset may name the store where it moved to, but not another one."""
    write_tiny_store(own_world / "data" / "other.h5", seed=1)
    if not finished:
        (own_world / "runs/tiny-a/summary.json").unlink()
    before = snapshot(own_world)
    pamela(
        *("meta-train", "--run", "tiny-a", "--resume", "--dataset", named, "-q"),
    ).error(2, "--dataset")
    assert snapshot(own_world) == before


def test_resume_where_the_store_moved(pamela, undrawn: None, own_world: Path) -> None:
    (own_world / "runs/tiny-a/summary.json").unlink()
    shutil.rmtree(own_world / "runs/tiny-a/figures")
    moved = shutil.move(own_world / "data" / "tiny.h5", own_world / "moved.h5")
    pamela("meta-train", "--run", "tiny-a", "--resume", "--dataset", moved, "--json").ok()
    assert (own_world / "runs/tiny-a/summary.json").exists()
    assert (own_world / "runs/tiny-a/figures/training.png").exists()


def test_resume_with_the_store_changed(pamela, own_world: Path) -> None:
    (own_world / "runs/tiny-a/summary.json").unlink()
    write_tiny_store(own_world / "data" / "tiny.h5", seed=1)
    before = snapshot(own_world)
    pamela("meta-train", "--run", "tiny-a", "--resume").error(1, "tiny.h5", "checksum")
    assert snapshot(own_world) == before


def test_how_a_run_goes_on_is_recorded(pamela, undrawn: None, own_world: Path) -> None:
    """On another kind of device it goes on by another plan, and a second time by that one."""
    run = own_world / "runs" / "tiny-a"
    (run / "summary.json").unlink()
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(re.sub(r'device = ".*"', 'device = "cuda:0"', config))
    pamela("meta-train", "--run", "tiny-a", "--resume", "-q").ok()
    assert tomllib.loads((run / "config.toml").read_text()) == tomllib.loads(config)
