"""The power goes at any moment of a run: it goes on to the same bits, or starts if nothing was saved yet."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from cli_power import Disk, Moment, Tree, write_tree
from cli_support import SINE, assert_same_run

from data_prep.store.atomic import flush, flush_folder, is_draft
from pamela_cli import training
from pamela_cli.files import append, make_durable, write_atomically

START = [
    *("meta-train", *SINE, "--steps", "2", "--meta-batch", "1", "--width", "4", "--iterations", "4"),
    *("--val-every", "2", "--run", "mine", "-q"),
]
RESUME = ["meta-train", "--run", "mine", "--resume", "--no-figures"]


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "WINDOW", 2)


@pytest.fixture
def reference(pamela, tmp_path: Path) -> Path:
    """The run when nothing happens to it."""
    pamela(*START, "--runs-dir", tmp_path / "undisturbed").ok()
    return tmp_path / "undisturbed" / "mine"


def watched(here: Path, pamela, command: list[str]) -> list[Moment]:
    """The moments of a command. What it saves is promised from then on."""
    disk, save = Disk(here), training.save

    def saved(folder, loop, progress) -> None:
        save(folder, loop, progress)
        disk.promised = progress.step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "save", saved)
        patch.setattr(os, "getpid", lambda: 999_999_999)  # when the power is back, no process has this number
        disk.watch(patch)
        pamela(*command).ok()
    return disk.moments


def states(moments: list[Moment]) -> list[tuple[Tree, int]]:
    """What may be left, with the step that was promised; of those that differ in debris alone, one."""
    found: dict[object, tuple[Tree, int]] = {}
    for moment in moments:
        for tree in moment.trees():
            sound = {path: data for path, data in tree.items() if not re.search(r"\.partial|tfevents", path)}
            key = (frozenset(sound.items()), moment.promised)
            if key not in found or len(tree) > len(found[key][0]):
                found[key] = (tree, moment.promised or 0)
    return list(found.values())


def assert_goes_on(pamela, here: Path, reference: Path, tree: Tree, promised: int) -> None:
    shutil.rmtree(here / "runs", ignore_errors=True)
    write_tree(here, tree)
    mine = here / "runs" / "mine"
    if mine.exists():
        said = pamela(*RESUME).ok().err
        step = re.search(r"continues from step (\d+)", said)
        assert "is finished" in said or (step and int(step[1]) >= promised), said
    else:
        assert promised == 0
        pamela(*RESUME).error(2, "there is no run")
        pamela(*START).ok()
    assert_same_run(mine, reference)
    assert (mine / "scores.safetensors").read_bytes() == (reference / "scores.safetensors").read_bytes()
    assert not [path for path in here.rglob("*") if is_draft(path)], "debris is left"


def forbid_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_the_power_goes_while_a_run_is_trained(
    pamela, here: Path, reference: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        forbid_links(monkeypatch)
    left = states(watched(here, pamela, START))
    assert len(left) > 15
    assert {promised for _, promised in left} == {0, 2, 4}
    for tree, promised in left:
        assert_goes_on(pamela, here, reference, tree, promised)


def test_the_power_goes_while_a_run_goes_on(pamela, here: Path, reference: Path) -> None:
    """After a power cut that tore the metrics, a second one comes at any moment of the resumption."""
    torn = next(
        tree
        for tree, promised in states(watched(here, pamela, START))
        if promised == 2 and tree["runs/mine/metrics.jsonl"].endswith(b"\0")
    )
    shutil.rmtree(here / "runs")
    write_tree(here, torn)
    for tree, promised in states(watched(here, pamela, RESUME)):
        assert_goes_on(pamela, here, reference, tree, max(promised, 2))


def test_what_the_disk_of_these_tests_forgets(tmp_path: Path) -> None:
    """A file that is renamed and not flushed may be empty; one whose folder is not, may not be there."""
    root = tmp_path / "disk"
    root.mkdir()
    (root / "old").write_text("old")

    def left(action) -> set[tuple[tuple[str, bytes], ...]]:
        disk = Disk(root)
        with pytest.MonkeyPatch.context() as patch:
            disk.watch(patch)
            action()
            disk._look()
        return {tuple(sorted(tree.items())) for tree in disk.moments[-1].trees()}

    def careless() -> None:
        (root / "new").write_text("newer!")
        (root / "new").replace(root / "old")

    assert left(careless) == {
        (("old", content),) for content in (b"old", b"", b"new", bytes(6), b"newer!")
    } | {(("new", content), ("old", b"old")) for content in (b"", b"new", bytes(6), b"newer!")}

    assert left(lambda: append(root / "old", "+1")) == {
        (("old", b"newer!" + tail),) for tail in (b"", b"+", bytes(2), b"+1")
    }
    assert left(lambda: make_durable(root / "old")) == {(("old", b"newer!+1"),)}
    assert left(lambda: write_atomically(root / "old", "x")) == {(("old", b"x"),)}
    (root / "named").touch()
    assert left(lambda: flush(root / "named")) == {(("named", b""), ("old", b"x"))}

    def linked() -> None:
        os.link(root / "old", root / "other")

    assert len(left(linked)) == 2
    assert len(left(lambda: flush_folder(root))) == 1


@pytest.mark.parametrize(
    "tail", [b"", b"\0" * 300, b"\x18\0\0\0\0\0\0\0torn"], ids=["whole", "zeros", "torn"]
)
def test_events_are_read_on_whatever_is_left_of_the_last_file(pamela, here: Path, tail: bytes) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pamela(*START).ok()
    run = here / "runs" / "mine"
    (events,) = run.glob("events.out.tfevents.*")
    with events.open("ab") as file:
        file.write(tail)
    for name in ("summary.json", "last.safetensors"):
        (run / name).unlink()
    pamela(*RESUME).ok()
    assert len(list(run.glob("events.out.tfevents.*"))) == 2
    read = EventAccumulator(str(run)).Reload()
    assert [event.step for event in read.Scalars("validation/mse")] == [2, 4]
