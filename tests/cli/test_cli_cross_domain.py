"""`pamela evaluate --dataset`: a run judged on another dataset than the one it was trained on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_support import write_tiny_store

from data_prep import Store
from data_prep.resizing import resized

QUICK = ["--tasks", "4", "--no-figures", "--json"]


def resized_store(source: Path, out: Path, size: int) -> Path:
    """A store with the same frozen tasks, its images made of another's."""
    write_tiny_store(out, size=size, seed=1)
    with Store.open(source) as store, h5py.File(out, "r+") as file:
        for split in map(store.split, store.splits()):
            images = resized(split.read(), size, 1)
            file[f"{split.name}/images"][...] = images
            file[split.name].attrs["images_sha256"] = hashlib.sha256(images.tobytes()).hexdigest()
    return out


def test_the_result_says_what_it_was_trained_on(pamela, own_world: Path) -> None:
    other = write_tiny_store(own_world / "data" / "other.h5", seed=1)
    document = pamela("evaluate", "tiny-a", "--dataset", other, *QUICK).ok().document
    assert (document["trained_on"], document["dataset"]) == ("tiny", "other")
    out = pamela("evaluate", "tiny-a", "--dataset", "other", *QUICK[:-1]).ok().out
    assert "tiny-a, trained on tiny" in out and "other test" in out
    assert "trained on" not in pamela("evaluate", "tiny-a", *QUICK[:-1]).ok().out


def test_images_are_standardised_as_in_training(pamela, own_world: Path) -> None:
    """What a store says of its own mean is of no account for a network that was trained with another."""
    other = write_tiny_store(own_world / "other.h5", seed=1)
    first = pamela("evaluate", "tiny-a", "--dataset", other, *QUICK).ok().out
    with h5py.File(other, "r+") as file:
        file.attrs["mean"], file.attrs["std"] = np.array([0.1]), np.array([3.0])
    assert pamela("evaluate", "tiny-a", "--dataset", other, *QUICK).ok().out == first


@pytest.mark.parametrize("size", [20, 40])
def test_resized_images_are_those_of_a_store_of_that_size(pamela, own_world: Path, size: int) -> None:
    large = write_tiny_store(own_world / "large.h5", size=size, seed=1)
    pamela("evaluate", "tiny-a", "--dataset", large, "-q", *QUICK).error(2, "16×16", "--resize")
    small = resized_store(large, own_world / "large16" / "large.h5", 16)
    one, other = (
        pamela("evaluate", "tiny-a", "--dataset", path, "--resize", *QUICK).ok().document
        for path in (large, small)
    )
    assert (one.pop("resized"), other.pop("resized")) == (True, False)
    assert one == other


def test_colour_is_made_grey(pamela, own_world: Path) -> None:
    colour = write_tiny_store(own_world / "colour.h5", channels=3)
    document = pamela("evaluate", "tiny-a", "--dataset", colour, "--resize", *QUICK).ok().document
    assert document["dataset"] == "colour" and 0 < document["accuracy"] <= 1


def test_the_same_tasks_for_two_runs(pamela, own_world: Path) -> None:
    large = write_tiny_store(own_world / "large.h5", size=24, seed=1)
    document = pamela("evaluate", "tiny-a", "tiny-b", "--dataset", large, "--resize", *QUICK).ok().document
    assert {run["dataset"] for run in document["runs"]} == {"large"} and len(document["pairs"]) == 1


def test_resize_is_for_other_datasets(pamela, own_world: Path) -> None:
    pamela("evaluate", "tiny-a", "--resize", *QUICK[:-1]).error(2, "--resize", "--dataset")


def test_a_run_that_does_not_tell_its_inputs(pamela, own_world: Path) -> None:
    config = own_world / "runs" / "tiny-a" / "config.toml"
    config.write_text(config.read_text().partition("\n[inputs]\n")[0])
    other = write_tiny_store(own_world / "other.h5", seed=1)
    pamela("evaluate", "tiny-a", "--dataset", other, *QUICK[:-1]).error(1, "an earlier version")
    same = pamela("evaluate", "tiny-a", "--dataset", own_world / "data" / "tiny.h5", *QUICK).ok().document
    assert same == pamela("evaluate", "tiny-a", *QUICK).ok().document
