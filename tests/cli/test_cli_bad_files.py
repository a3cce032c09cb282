"""Bad configuration files, stores, checkpoints and runs: one sentence, and nothing changes."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from cli_support import SINE, TINY, snapshot, tensors, write_tiny_store
from safetensors.numpy import save_file

# Configuration files ---------------------------------------------------------------------------------

CONFIGS = {
    "unknown key": ("[outer]\niteration = 5\n", ["iteration", "did you mean iterations?"]),
    "unknown section": ("[outerr]\niterations = 5\n", ["outerr", "did you mean outer?"]),
    "key outside a section": ("iterations = 5\n", ["iterations"]),
    "key in the wrong section": ("[task]\niterations = 5\n", ["iterations", "[task]"]),
    "text for a number": ('[outer]\niterations = "5"\n', ["--iterations", "a whole number", "'5'"]),
    "fraction for a whole number": ("[outer]\niterations = 5.0\n", ["--iterations"]),
    "true for a number": ("[outer]\niterations = true\n", ["--iterations"]),
    "number for a text": ("[inner]\nmethod = 1\n", ["--method"]),
    "number for true": ("[task]\nrotations = 1\n", ["--rotations"]),
    "list": ("[outer]\nmeta_lr = [0.1]\n", ["--meta-lr"]),
    "not a number": ("[outer]\nmeta_lr = nan\n", ["--meta-lr"]),
    "out of bounds": ("[outer]\nmeta_lr = -1\n", ["--meta-lr"]),
    "unknown choice": ('[outer]\nschedule = "linear"\n', ["--schedule", "cosine"]),
    "not TOML": ("iterations: 5\n", ["TOML"]),
    "given twice": ("[outer]\niterations = 5\niterations = 6\n", ["TOML"]),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_bad_config(pamela, here: Path, case: str) -> None:
    text, parts = CONFIGS[case]
    (here / "mine.toml").write_text(text)
    before = snapshot(here)
    pamela("meta-train", *SINE, "--config", "mine.toml").error(2, "mine.toml", *parts)
    assert snapshot(here) == before


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", "folder"])
def test_config_that_cannot_be_read(pamela, here: Path, content: Any) -> None:
    if content == "folder":
        (here / "mine.toml").mkdir()
    elif content is not None:
        (here / "mine.toml").write_bytes(content)
    before = snapshot(here)
    pamela("meta-train", *SINE, "--config", "mine.toml").error(2, "--config", "mine.toml")
    assert snapshot(here) == before


def test_config_of_a_run_on_another_store(pamela, own_world: Path) -> None:
    write_tiny_store(own_world / "data" / "tiny.h5", seed=1)
    before = snapshot(own_world)
    pamela("meta-train", "--config", "runs/tiny-a/config.toml").error(1, "tiny.h5", "checksum")
    assert snapshot(own_world) == before


def test_run_of_images_that_no_network_takes(pamela, own_world: Path) -> None:
    config = own_world / "runs" / "tiny-a" / "config.toml"
    config.write_text(config.read_text().replace("image_size = 16", "image_size = 8"))
    (own_world / "mine").mkdir()
    pamela("predict", "tiny-a", "mine", "mine").error(1, "8×8", "16 to 224")


@pytest.mark.parametrize("text", ["", "[task\n", '[task]\ndataset = "sine"\nodd = 1\n', "\xff"])
@pytest.mark.parametrize("command", [["evaluate", "sine-a"], ["meta-train", "--run", "sine-a", "--resume"]])
def test_run_with_a_broken_config(pamela, own_world: Path, command: list[str], text: str) -> None:
    run = own_world / "runs" / "sine-a"
    (run / "summary.json").unlink()
    (run / "config.toml").write_text(text, encoding="latin-1")
    before = snapshot(own_world)
    pamela(*command, "-q").error(1, "runs/sine-a")
    assert snapshot(own_world) == before


# Stores ----------------------------------------------------------------------------------------------


def store_of_version_2(path: Path) -> None:
    with h5py.File(write_tiny_store(path), "r+") as file:
        file.attrs["format_version"] = 2


def store_cut_short(path: Path) -> None:
    write_tiny_store(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_hdf5(path: Path) -> None:
    path.write_text("not HDF5\n" * 1000)


def empty_store(path: Path) -> None:
    path.touch()


def other_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = [1, 2, 3]


def store_without_a_split(path: Path) -> None:
    with h5py.File(write_tiny_store(path), "r+") as file:
        del file["val"]


def too_few_classes(path: Path) -> None:
    write_tiny_store(path, counts=(20,) * 4)


def too_few_images(path: Path) -> None:
    write_tiny_store(path, counts=(15,) * 6)


def too_small_images(path: Path) -> None:
    write_tiny_store(path, size=8)


STORES: dict[Callable[[Path], None], list[str]] = {
    store_of_version_2: ["version 2", "version 1"],
    store_cut_short: ["cut short"],
    no_hdf5: ["HDF5"],
    empty_store: ["bad.h5"],
    other_hdf5: ["not an episode store"],
    store_without_a_split: ["val"],
    too_few_classes: ["4 classes", "5"],
    too_few_images: ["16"],
    too_small_images: ["8×8", "--image-size"],
}


@pytest.mark.parametrize("make", STORES)
@pytest.mark.parametrize("by", ["file", "name"])
def test_bad_store(pamela, here: Path, make: Callable[[Path], None], by: str) -> None:
    name = "bad.h5" if by == "file" else "data/omniglot.h5"
    (here / "data").mkdir()
    make(here / name)
    before = snapshot(here)
    parts = [part.replace("bad.h5", name) for part in STORES[make]]
    dataset = name if by == "file" else "omniglot"
    pamela("meta-train", *TINY, "--dataset", dataset).error(1, name, *parts)
    assert snapshot(here) == before


def test_evaluate_without_the_store(pamela, own_world: Path) -> None:
    (own_world / "data" / "tiny.h5").unlink()
    message = pamela("evaluate", "tiny-a").error(1, "tiny.h5", "--dataset")
    assert "There is no dataset" not in message  # there was one: it is its store that is gone


# Checkpoints -----------------------------------------------------------------------------------------


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def empty_checkpoint(path: Path) -> None:
    path.write_bytes(b"")


def checkpoint_cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"theta": [1.0, 2.0]}))


def of_torch(path: Path) -> None:
    torch.save({"theta": torch.zeros(3)}, path)


def other_safetensors(path: Path) -> None:
    save_file({"theta": np.zeros(3, np.float32)}, path)


def of_another_run(path: Path) -> None:
    shutil.copy(path.parents[1] / "sine-a" / path.name, path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHECKPOINTS = [
    garbage,
    empty_checkpoint,
    checkpoint_cut_short,
    pickled,
    of_torch,
    other_safetensors,
    of_another_run,
    a_folder,
]


@pytest.mark.parametrize("damage", CHECKPOINTS)
def test_evaluate_a_bad_checkpoint(pamela, own_world: Path, damage: Callable[[Path], None]) -> None:
    damage(own_world / "runs" / "tiny-a" / "best.safetensors")
    before = snapshot(own_world)
    pamela("evaluate", "tiny-a").error(1, "runs/tiny-a")
    assert snapshot(own_world) == before


@pytest.mark.parametrize("damage", CHECKPOINTS)
def test_resume_from_a_bad_checkpoint(pamela, own_world: Path, damage: Callable[[Path], None]) -> None:
    run = own_world / "runs" / "tiny-a"
    (run / "summary.json").unlink()
    damage(run / "last.safetensors")
    (run / "previous.safetensors").unlink()
    before = snapshot(own_world)
    pamela("meta-train", "--run", "tiny-a", "--resume").error(1, "runs/tiny-a/last.safetensors")
    assert snapshot(own_world) == before


@pytest.mark.parametrize("damage", [damage for damage in CHECKPOINTS if damage is not a_folder])
def test_resume_from_the_checkpoint_before(
    pamela, undrawn: None, own_world: Path, damage: Callable[[Path], None]
) -> None:
    run = own_world / "runs" / "tiny-a"
    expected = tensors(run / "last.safetensors")
    (run / "summary.json").unlink()
    damage(run / "last.safetensors")
    result = pamela("meta-train", "--run", "tiny-a", "--resume").ok()
    assert "runs/tiny-a/last.safetensors" in result.err
    assert "continuing from the previous checkpoint, of step" in result.err
    assert tensors(run / "last.safetensors") == expected, "to the same bits"


def test_both_checkpoints_damaged(pamela, own_world: Path) -> None:
    run = own_world / "runs" / "tiny-a"
    (run / "summary.json").unlink()
    for name in ("last.safetensors", "previous.safetensors"):
        flipped = bytearray((run / name).read_bytes())
        flipped[-1] ^= 1
        (run / name).write_bytes(flipped)
    before = snapshot(own_world)
    wrong = pamela("meta-train", "--run", "tiny-a", "--resume")
    wrong.error(1, "last.safetensors is damaged", "previous checkpoint", "previous.safetensors is damaged")
    assert snapshot(own_world) == before


def test_evaluate_before_the_first_validation(pamela, own_world: Path) -> None:
    (own_world / "runs" / "tiny-a" / "best.safetensors").unlink()
    pamela("evaluate", "tiny-a").error(1, "runs/tiny-a", "pamela meta-train --run", "--resume")


def test_broken_summary(pamela, own_world: Path) -> None:
    (own_world / "runs" / "tiny-a" / "summary.json").write_text('{"run": ')
    before = snapshot(own_world)
    pamela("meta-train", "--run", "tiny-a", "--resume").error(1, "summary.json")
    assert snapshot(own_world) == before


@pytest.mark.parametrize("runs", ["", "runs"])
def test_no_runs_at_all(pamela, here: Path, runs: str) -> None:
    if runs:
        (here / runs).mkdir()
    before = snapshot(here)
    pamela("evaluate", "mine").error(2, "runs/mine")
    assert snapshot(here) == before
