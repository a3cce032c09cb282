"""`pamela prepare --list`, and one's own images from the folder to a result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_support import snapshot
from PIL import Image


@pytest.fixture
def photos(here: Path) -> Path:
    """15 classes of 16 small pictures, each class of its own colour."""
    rng = np.random.default_rng(0)
    for index in range(15):
        folder = here / "photos" / f"thing{index:02}"
        folder.mkdir(parents=True)
        for number in range(16):
            pixels = rng.integers(0, 60, (20, 24, 3)) + 13 * index
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02}.png")
    return here / "photos"


def test_list_shows_every_dataset_and_every_store(pamela, own_world: Path) -> None:
    (own_world / "data" / "damaged.h5").write_bytes(b"no store")
    document = json.loads(pamela("prepare", "--list", "--json").ok().out)
    names = [entry["name"] for entry in document["datasets"]]
    assert {"miniimagenet", "tieredimagenet", "cifar-fs", "fc100", "omniglot", "glyphs", "folder"} == set(
        names
    )
    stores = {Path(entry["store"]).name: entry for entry in document["prepared"]}
    assert "fault" in stores["damaged.h5"]
    assert stores["tiny.h5"]["splits"]["train"]["classes"] > 0
    text = pamela("prepare", "--list").ok().out
    assert "cifar-100-python" in text and "tiny" in text


def test_list_takes_no_name_and_prepare_needs_one(pamela, here: Path) -> None:
    pamela("prepare", "cifar-fs", "--list").error(2, "--list", "cifar-fs")
    pamela("prepare").error(2, "NAME")


@pytest.mark.parametrize("limit", [200, 20_000, 60_000])
def test_a_quota_that_ends_the_writing_is_one_sentence(warm, photos: Path, here: Path, limit: int) -> None:
    """HDF5 crashes where it has to close what it could not write."""
    before = snapshot(here)
    command = ("prepare", "folder", "photos", "--class-split", "5,5,5", "--image-size", "16")
    done = warm(here, *command, file_limit=limit)
    assert done.error(1, "data/photos.h5 could not be written (File too large); free some space")
    assert snapshot(here) == before


def test_own_images_from_the_folder_to_a_result(pamela, photos: Path) -> None:
    made = pamela(
        "prepare", "folder", photos, "--class-split", "5,5,5", "--image-size", "16", "--json", "-q"
    ).ok()
    document = json.loads(made.out)
    assert document["store"] == "data/photos.h5"
    assert {split: counts["classes"] for split, counts in document["splits"].items()} == {
        "train": 5,
        "val": 5,
        "test": 5,
    }
    assert Path("data/photos.png").read_bytes().startswith(b"\x89PNG")
    quick = ["--width", 4, "--iterations", 2, "--val-tasks", 2, "--test-tasks", 2, "-q", "--json"]
    summary = json.loads(pamela("meta-train", "--dataset", "photos", *quick).ok().out)
    assert summary["dataset"] == "photos" and summary["test"]["tasks"] == 2


def test_a_store_is_verified_by_any_spelling_of_its_name(pamela, photos: Path) -> None:
    photos.rename("Fotos von Tieren")
    pamela("prepare", "folder", "Fotos von Tieren", "--class-split", "5,5,5", "--image-size", "16").ok()
    for name in (["Fotos von Tieren"], ["fotos-von-tieren"], ["folder", "--name", "Fotos von Tieren"]):
        verified = pamela("prepare", *name, "--verify", "--json", "-q").ok()
        assert json.loads(verified.out)["store"] == "data/Fotos-von-Tieren.h5"


@pytest.mark.parametrize(
    ("folder", "flags"), [("sine", []), ("Sine", []), ("sine.zip", []), ("photos", ["--name", "sine"])]
)
def test_a_dataset_is_not_called_as_the_sine_waves(pamela, photos: Path, folder: str, flags) -> None:
    if folder.endswith(".zip"):
        shutil.make_archive("sine", "zip", photos)
    else:
        photos.rename(folder)
    pamela("prepare", "folder", folder, *flags, "--out", "other.h5").error(2, "--dataset sine", "--name")
    assert not Path("other.h5").exists() and not Path("data").exists()


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--class-split", "5,5"], ["--class-split"]),
        (["--fit", "stretch"], ["--fit", "crop or pad"]),
        (["--name", "../x"], ["--name"]),
        (["--split-seed", "-1"], ["--split-seed", "at least 0"]),
    ],
)
def test_wrong_wishes_for_own_images_are_named(
    pamela, photos: Path, flags: list[str], parts: list[str]
) -> None:
    pamela("prepare", "folder", photos, *flags).error(2, *parts)
    assert not Path("data").exists()
