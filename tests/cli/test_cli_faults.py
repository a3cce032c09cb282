"""What can go wrong around a run: a second process, a full disk, a store or a clock that changes."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import (
    QUICK_TINY,
    TINY,
    assert_same_run,
    metrics,
    snapshot,
    tensors,
    write_tiny_store,
)

from pamela_cli.engine.outer_loop import OuterLoop
from pamela_cli.files import keep_as

LONG = ["meta-train", *TINY, "--iterations", "100000", "--val-every", "50000", "--run", "long"]


@pytest.fixture(autouse=True)
def store(here: Path) -> Path:
    path = here / "data" / "tiny.h5"
    write_tiny_store(path)
    return path


def after_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], object]) -> None:
    """Do something when a run has taken so many steps."""
    advance = OuterLoop._advance

    def advanced(self, source):
        found = advance(self, source)
        if self.step == step:
            action()
        return found

    monkeypatch.setattr(OuterLoop, "_advance", advanced)


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX systems")
def test_two_processes_cannot_train_one_run(warm, pamela, here: Path) -> None:
    job = warm.start(here, *LONG)
    run = here / "runs" / "long"
    job.when(lambda: bool(list(run.glob("events*"))))
    pamela("meta-train", "--run", "long", "--resume").error(
        1, "runs/long is being trained by another process"
    )
    job.send(15)
    assert job.wait().code == 143
    assert not [path for path in run.iterdir() if "lock" in path.name], "the lock leaves nothing"


@pytest.fixture
def tiny(quick: Path, here: Path) -> Path:
    """A finished run, to be changed at will."""
    run = here / "runs" / "tiny"
    shutil.copytree(quick / "runs" / "tiny", run)
    return run


def test_the_checkpoint_before_is_kept(quick: Path) -> None:
    run = quick / "runs" / "tiny"
    counts = [tensors(run / f"{name}.safetensors")["adam.theta.step"] for name in ("previous", "last")]
    assert counts[0] != counts[1]


@pytest.mark.parametrize("limit", [4_000, 8_000])
def test_a_full_disk_costs_no_more_than_the_steps_since_the_last_checkpoint(
    warm, pamela, here: Path, quick: Path, limit: int
) -> None:
    """No file may grow beyond the limit: that of the best checkpoint cannot be written, or of the last."""
    done = warm(here, *QUICK_TINY, "--run", "full", "-q", file_limit=limit)
    line = done.error(1, "could not be written (File too large)")
    assert line.startswith("error: runs/full/")
    run = here / "runs" / "full"
    assert not [path.name for path in run.iterdir() if path.name.endswith(".partial")]
    pamela("meta-train", "--run", "full", "--resume", "-q", "--no-figures").ok()
    assert_same_run(run, quick / "runs" / "tiny")


def test_a_folder_that_cannot_be_written_to(pamela, here: Path, tiny: Path) -> None:
    (tiny / "summary.json").unlink()
    before = snapshot(here)
    opened = os.open

    def read_only(path, flags, *arguments, **options):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *arguments, **options)

    def path_open(self, mode="r", *arguments, **options):
        if set(mode) & set("wax+"):
            raise PermissionError(13, "Permission denied", str(self))
        return original(self, mode, *arguments, **options)

    original = Path.open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", path_open)
        patch.setattr(os, "open", read_only)
        resumed = pamela("meta-train", "--run", "tiny", "--resume", "-q")
    resumed.error(1, "runs/tiny/", "Permission denied")
    assert snapshot(here) == before


@pytest.mark.parametrize("keep", [0, 5_000])
def test_a_store_that_is_cut_short_during_a_run(
    pamela, here: Path, store: Path, quick: Path, keep: int
) -> None:
    whole = store.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        after_step(patch, 3, lambda: os.truncate(store, keep))
        result = pamela(*QUICK_TINY, "--run", "cut", "-q")
    result.error(1, "tiny.h5", "do not match their checksum")
    store.unlink()
    store.write_bytes(whole)
    pamela("meta-train", "--run", "cut", "--resume", "-q", "--no-figures").ok()
    assert_same_run(here / "runs" / "cut", quick / "runs" / "tiny")


def test_a_store_that_is_another_when_a_run_goes_on(pamela, here: Path, store: Path, tiny: Path) -> None:
    (tiny / "summary.json").unlink()
    store.unlink()
    write_tiny_store(store, seed=5)
    before = snapshot(here)
    pamela("meta-train", "--run", "tiny", "--resume", "-q").error(1, "tiny.h5")
    assert snapshot(here) == before


def test_a_clock_that_goes_back(pamela, here: Path, quick: Path) -> None:
    now = time.time()
    with pytest.MonkeyPatch.context() as patch:
        after_step(patch, 2, lambda: patch.setattr(time, "time", lambda: now - 10 * 365 * 86_400))
        pamela(*QUICK_TINY, "--run", "back", "-q").ok()
    assert_same_run(here / "runs" / "back", quick / "runs" / "tiny")
    assert all(record.get("tasks_per_second", 1) > 0 for record in metrics(here / "runs" / "back"))


def test_keeping_a_file_again_leaves_no_second_name(tmp_path: Path) -> None:
    """A kill between keeping the last checkpoint and writing the next leaves two names of one file."""
    last, previous = tmp_path / "last", tmp_path / "previous"
    last.write_text("step 10")
    for _ in range(2):
        keep_as(last, previous)
        assert previous.read_text() == "step 10"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "last", "previous"]
