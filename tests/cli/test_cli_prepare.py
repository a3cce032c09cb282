"""`pamela prepare`, and the embedded glyphs that serve where no dataset is named."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_photos import save
from cli_support import TINY, WarmProcesses, snapshot, write_tiny_store


@pytest.fixture(scope="session")
def started_empty(made_once, warm: WarmProcesses) -> Path:
    """A folder that was empty when `pamela meta-train` was called in it; what it printed is in two files."""

    def start(folder: Path) -> None:
        quick = [argument for argument in TINY if argument not in ("--dataset", "tiny")]
        result = warm(
            folder,
            *("meta-train", "--way", "5", "--shot", "1", *quick, "--iterations", "4", "--val-every", "2"),
            "--json",
        ).ok()
        (folder / "stdout").write_text(result.out)
        (folder / "stderr").write_text(result.err)

    return made_once("empty", start)


def test_an_empty_folder_is_enough(started_empty: Path) -> None:
    document = json.loads((started_empty / "stdout").read_text())
    assert document["dataset"] == "glyphs"
    assert document["run"] == "pamela-glyphs-5w1s-s0"
    assert 0 < document["test"]["accuracy"] <= 1
    assert (started_empty / "data" / "glyphs.h5").exists()
    assert (started_empty / "runs" / "pamela-glyphs-5w1s-s0" / "summary.json").exists()
    said = (started_empty / "stderr").read_text()
    assert "glyphs" in said
    assert "pamela prepare miniimagenet" in said


def test_verify(pamela, started_empty: Path, here: Path) -> None:
    result = pamela("prepare", "glyphs", "--verify", "--data-dir", started_empty / "data", "--json").ok()
    document = result.document
    assert list(document) == ["store", "dataset", "form", "image_size", "splits", "sha256"]
    assert document["store"] == str(started_empty / "data" / "glyphs.h5")
    assert (document["dataset"], document["image_size"]) == ("glyphs", 28)
    assert set(document["splits"]) == {"train", "val", "test"}
    for counts in document["splits"].values():
        assert set(counts) == {"classes", "images"}
        assert counts["images"] == 20 * counts["classes"]
    assert len(document["sha256"]) == 64
    assert list(here.iterdir()) == []


def test_verify_is_silent_when_quiet(pamela, started_empty: Path) -> None:
    store = started_empty / "data" / "glyphs.h5"
    assert pamela("prepare", "glyphs", "--verify", "--out", store, "-q", "--json").ok().err == ""
    assert "classes" in pamela("prepare", "glyphs", "--verify", "--out", store).ok().out


def test_store_that_is_there_stays(pamela, world: Path, here: Path) -> None:
    (here / "data").mkdir()
    shutil.copy(world / "data/tiny.h5", here / "data/glyphs.h5")
    before = snapshot(here)
    pamela("prepare", "glyphs").error(1, "data/glyphs.h5", "--force")
    assert snapshot(here) == before


def test_force_replaces_it_with_the_same_as_ever(started_empty: Path, glyphs: Path) -> None:
    """A store prepared by command is the one that training makes for itself, bit by bit where it counts."""
    made = json.loads(glyphs.with_name("out.json").read_text())
    assert made["store"] == str(glyphs)
    with h5py.File(started_empty / "data" / "glyphs.h5") as file:
        assert made["sha256"] == file.attrs["sha256"]
    names = sorted(path.name for path in glyphs.parent.iterdir())
    assert names == ["glyphs.h5", "glyphs.png", "out.json"]


# Bad input -------------------------------------------------------------------------------------------


def text_as_zip(folder: Path) -> Path:
    (folder / "cifar100.zip").write_text("not an archive\n" * 100)
    return folder / "cifar100.zip"


def zip_of_something_else(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    return folder / "other.zip"


def zip_cut_short(folder: Path) -> Path:
    path = zip_of_something_else(folder)
    path.write_bytes(path.read_bytes()[:-10])
    return path


def empty_file(folder: Path) -> Path:
    (folder / "cifar100.zip").touch()
    return folder / "cifar100.zip"


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def nothing(folder: Path) -> Path:
    return folder / "missing.zip"


@pytest.mark.parametrize("dataset", ["cifar-fs", "fc100", "omniglot"])
@pytest.mark.parametrize(
    "make", [text_as_zip, zip_of_something_else, zip_cut_short, empty_file, empty_folder, nothing]
)
def test_wrong_source(pamela, here: Path, dataset: str, make) -> None:
    source = make(here)
    (here / "data").mkdir()
    before = snapshot(here)
    pamela("prepare", dataset, source, "-q").error(1 if source.exists() else 2, source.name)
    assert snapshot(here) == before


def test_source_that_may_not_be_read(warm, here: Path) -> None:
    source = zip_of_something_else(here)
    source.chmod(0)
    result = warm(here, "prepare", "cifar-fs", str(source), "--out", "x.h5", powerless=True)
    result.error(2, source.name)
    assert [path.name for path in here.iterdir()] == [source.name]


def test_image_that_may_not_be_read(warm, here: Path) -> None:
    """It is no broken image, which would be left out: the rights are to be had."""
    for name in ("a", "b", "c", "d", "e", "f"):
        save(np.zeros((4, 8, 8, 1), np.uint8), here / "own" / name)
    (here / "own" / "c" / "001.png").chmod(0)
    result = warm(here, "prepare", "folder", "own", "-q", powerless=True)
    result.error(1, "c/001.png cannot be read (Permission denied)")
    assert [path.name for path in here.iterdir()] == ["own"]


def test_folder_that_may_not_be_written(warm, here: Path) -> None:
    here.chmod(0o555)
    result = warm(here, "prepare", "glyphs", "--out", "letters.h5", "-q", powerless=True)
    here.chmod(0o755)
    result.error(1, "letters.h5", "ermission")
    assert snapshot(here) == {}


def test_failure_leaves_no_folder_behind(pamela, here: Path) -> None:
    pamela("prepare", "cifar-fs", "missing.zip", "-q").error(2, "missing.zip")
    assert snapshot(here) == {}


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["cifarfss"], 2, ["cifarfss", "did you mean cifar-fs?"]),
        (["zzz"], 2, ["zzz", "glyphs", "omniglot"]),
        (["glyphs", "letters.zip"], 2, ["letters.zip"]),
        (["glyphs", "--verify", "letters.zip"], 2, ["--verify", "letters.zip"]),
        (["glyphs", "--verify"], 1, ["data/glyphs.h5"]),
        (["glyphs", "--verify", "--workers", "2"], 2, ["--verify checks", "as it is"]),
        (["anything", "--verify", "--out", "none.h5"], 1, ["none.h5"]),
        (["glyphs", "--workers", "0"], 2, ["--workers"]),
        (["glyphs", "--workers", "many"], 2, ["--workers"]),
        (["glyphs", "--image-size", "7"], 2, ["--image-size"]),
        (["glyphs", "--image-size", "513"], 2, ["--image-size"]),
        (["glyphs", "--image-size", "big"], 2, ["--image-size"]),
        (["glyphs", "--out", "."], 1, ["folder"]),
        (["glyphs", "--out", "file/x.h5"], 1, ["file"]),
        (["glyphs", "--out", "/proc/x.h5"], 1, ["/proc/x.h5"]),
        (["glyphs", "--data-dir", "file"], 1, ["file"]),
        ([], 2, ["NAME"]),
        (["glyphs", "a", "b"], 2, ["b"]),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else " ".join(map(str, value)),
)
def test_wrong_usage(pamela, here: Path, arguments: list[str], code: int, parts: list[str]) -> None:
    (here / "file").write_text("kept")
    (here / "data").mkdir()
    before = snapshot(here)
    pamela("prepare", *arguments, "-q").error(code, *parts)
    assert snapshot(here) == before


def flip_a_byte(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["test/images"][3, 2, 1, 0] ^= 1


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("damage", [flip_a_byte, cut_short])
def test_verify_finds_damage(pamela, here: Path, damage) -> None:
    store = write_tiny_store(here / "tiny.h5")
    damage(store)
    before = snapshot(here)
    pamela("prepare", "glyphs", "--verify", "--out", store, "-q").error(1, "tiny.h5", "--force")
    assert snapshot(here) == before
