"""`pamela prepare`: wrong usage is told from wrong data, and names of strangers are only shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import pytest
from cli_support import write_tiny_store


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["folder", "photos", "--class-split", "foo"], "--class-split 'foo'"),
        (["folder", "photos", "--class-split", "50%,20%,20%"], "sums to 90 %"),
        (["folder", "photos", "--class-split", "1" + "0" * 400 + "%,16%,20%"], "--class-split '1000"),
        (["folder", "photos", "--class-split", "1" * 5000 + ",1,1"], "--class-split '1111"),
        (["folder", "photos", "--fit", "foo"], "crop or pad"),
        (["folder", "photos", "--name", "a/b"], "--name 'a/b'"),
        (["folder"], "pass a folder or archive"),
        (["cifar-fs", "photos", "--name", "x"], "--name is only for"),
        (["cifar-fs", "photos", "--class-split", "1,1,1"], "--class-split is only for"),
        (["glyphs", "photos"], "leave out photos"),
        (["cifar", "photos"], "did you mean"),
    ],
)
def test_wrong_usage_exits_2(pamela, here: Path, arguments: list[str], part: str) -> None:
    (here / "photos").mkdir()
    message = pamela("prepare", *arguments).error(2, part)
    assert len(message) < 500
    assert not (here / "data").exists()


def test_wrong_data_exits_1(pamela, here: Path) -> None:
    (here / "photos").mkdir()
    pamela("prepare", "folder", "photos").error(1, "no folders of images")


def test_what_a_stranger_has_named_is_shown_as_it_is(pamela, own_world: Path) -> None:
    path = own_world / "data" / "tiny.h5"
    (own_world / "data" / "[b]odd.h5").write_bytes(b"")
    with h5py.File(path, "r+") as file:
        file.attrs["dataset"] = "[/x]\x1b[2J"
    out = pamela("prepare", "--list").ok().out
    assert r"[/x]\x1b[2J" in out and "\x1b[2J" not in out and "[b]odd.h5" in out.replace("\n", "")
    out = pamela("prepare", "glyphs", "--verify", "--out", path).ok().out
    assert r"[/x]\x1b[2J" in out and "\x1b[2J" not in out
    found = json.loads(pamela("prepare", "--list", "--json").ok().out)["prepared"]
    assert "[/x]\x1b[2J" in [entry.get("dataset") for entry in found]


def test_a_store_that_would_mean_the_sine_waves(pamela, here: Path) -> None:
    write_tiny_store(here / "sine.h5")
    pamela("meta-train", "--dataset", "sine.h5").error(1, "sine.h5: --dataset sine means the sine waves")


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes")
def test_a_store_whose_name_is_no_text(pamela, here: Path) -> None:
    write_tiny_store(here / "im\udcff.h5")
    pamela("meta-train", "--dataset", here / "im\udcff.h5").error(1, "its name is not valid Unicode")
    assert not (here / "runs").exists()


def test_verify_by_the_name_of_a_store_of_ones_own(pamela, here: Path) -> None:
    write_tiny_store(here / "data" / "my-photos.h5")
    assert pamela("prepare", "my-photos", "--verify", "--json").ok().document["store"] == "data/my-photos.h5"
    pamela("prepare", "my-photo", "--verify").error(2, "my-photo")
