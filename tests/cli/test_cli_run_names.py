"""`pamela meta-train`: what runs are called, and where they lie."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from cli_support import QUICK_SINE, QUICK_TINY, snapshot, write_tiny_store


def test_default_name_and_what_follows_it(pamela, here: Path) -> None:
    for taken in ("maml-sine-10s-s3", "maml-sine-10s-s3-2"):
        (here / "runs" / taken).mkdir(parents=True)
    result = pamela(*QUICK_SINE, "--method", "maml", "--seed", "3", "--json").ok()
    assert result.document["run"] == "maml-sine-10s-s3-3"
    assert sorted(p.name for p in (here / "runs").iterdir()) == [
        "maml-sine-10s-s3",
        "maml-sine-10s-s3-2",
        "maml-sine-10s-s3-3",
    ]
    assert pamela(*QUICK_SINE, "--json").ok().document["run"] == "pamela-sine-10s-s0"


def test_default_name_for_images(pamela, own_world: Path) -> None:
    result = pamela(*QUICK_TINY, "--method", "q", "--way", 3, "--shot", 2, "--json").ok()
    assert result.document["run"] == "q-tiny-3w2s-s0"


def test_run_that_is_there(pamela, own_world: Path) -> None:
    before = snapshot(own_world)
    pamela(*QUICK_SINE, "--run", "sine-a").error(2, "runs/sine-a", "--resume")
    assert snapshot(own_world) == before


def test_run_as_a_path(pamela, here: Path) -> None:
    pamela(*QUICK_SINE, "--run", "deep/down/mine").ok()
    assert (here / "deep/down/mine/summary.json").exists()
    assert not (here / "runs").exists()
    by_path = pamela("evaluate", "deep/down/mine", "--tasks", 4, "--no-figures", "--json").ok().document
    by_name = pamela(
        "evaluate", "mine", "--runs-dir", "deep/down", "--tasks", 4, "--no-figures", "--json"
    ).ok()
    assert by_name.document == by_path
    assert by_path["run"] == "mine"


def test_folders_from_the_environment(pamela, world: Path, here: Path, monkeypatch) -> None:
    monkeypatch.setenv("PAMELA_DATA_DIR", str(world / "data"))
    monkeypatch.setenv("PAMELA_RUNS_DIR", str(here / "elsewhere"))
    pamela(*QUICK_TINY, "--run", "x").ok()
    assert (here / "elsewhere/x/summary.json").exists()
    pamela(*QUICK_SINE, "--run", "x", "--runs-dir", "flagged").ok()  # the flag wins
    assert (here / "flagged/x/summary.json").exists()
    assert sorted(p.name for p in here.iterdir()) == ["elsewhere", "flagged"]


def test_miniimagenet_is_preferred_where_it_is(pamela, world: Path, here: Path) -> None:
    (here / "data").mkdir()
    shutil.copy(world / "data/tiny.h5", here / "data/miniimagenet.h5")
    quick = [a for a in QUICK_TINY if a not in ("--dataset", "tiny")]
    result = pamela(*quick, "--way", 5, "--shot", 1, "--json").ok()
    assert result.document["dataset"] == "miniimagenet"
    assert result.document["run"] == "pamela-miniimagenet-5w1s-s0"
    assert "miniimagenet" in result.err.splitlines()[0]


def test_classes_left_out_are_said(pamela, here: Path) -> None:
    """The contract of the store: classes with too few images are left out, which is said."""
    write_tiny_store(here / "data" / "tiny.h5", counts=(20, 20, 20, 20, 20, 20, 9))
    result = pamela(*QUICK_TINY).ok()
    assert re.search(r"1 class\S* of .* left out", result.err)


def test_a_name_that_is_no_unicode_is_told_before_training(pamela, here: Path) -> None:
    """What is written into the run must be found again by libraries that take nothing else."""
    pamela("meta-train", "--dataset", "sine", "--run", "x\udcff").error(2, "--run", "not valid Unicode")
    assert not (here / "runs").exists()


def test_a_file_of_settings_may_begin_with_the_mark_of_its_encoding(pamela, here: Path) -> None:
    (here / "mine.toml").write_text('\ufeff[task]\ndataset = "sine"\nodd = 1\n', encoding="utf-8")
    pamela("meta-train", "--config", "mine.toml").error(2, "unknown key 'odd' in [task]")


def test_a_name_that_is_taken_is_told_before_a_dataset_is_made(pamela, here: Path) -> None:
    (here / "runs" / "taken").mkdir(parents=True)
    pamela("meta-train", "--run", "taken").error(2, "--run runs/taken already exists and is not a run")
    (here / "runs" / "taken" / "ablation.json").write_text("{}")
    pamela("meta-train", "--run", "taken").error(2, "already exists and is not a run")
    (here / "runs" / "taken" / "config.toml").write_text("")
    pamela("meta-train", "--run", "taken").error(2, "continue it with --resume")
    assert not (here / "data").exists()
