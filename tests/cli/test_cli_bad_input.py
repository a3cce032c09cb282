"""Wrong usage and bad input of `meta-train` and `evaluate`: one sentence, and nothing changes."""

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
from cli_support import SINE, TINY, fresh, snapshot, write_tiny_store
from safetensors.numpy import save_file

from pamela_cli.config import SETTINGS, setting_type

NUMBERS = [name for name in SETTINGS if setting_type(name) in (int, float)]
TEXTS = [name for name, item in SETTINGS.items() if item.metadata.get("choices")]


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def task_of(name: str) -> list[str]:
    return [*TINY] if name == "way" else [*SINE]


def out_of_bounds() -> list[tuple[str, str]]:
    """Every numeric setting, just outside each of its bounds, and what is no number at all."""
    cases = []
    for name in NUMBERS:
        bounds = SETTINGS[name].metadata
        if "low" in bounds:
            cases.append((name, str(bounds["low"] - 1)))
        if "above" in bounds:
            cases.append((name, str(bounds["above"])))
            cases.append((name, "-1"))
        if "high" in bounds:
            cases.append((name, str(bounds["high"] + 1)))
        if setting_type(name) is float:
            cases += [(name, "nan"), (name, "inf")]
        else:
            cases.append((name, "1.5"))
        cases.append((name, "many"))
    return cases


# Flags -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), out_of_bounds())
def test_number_out_of_bounds(pamela, own_world: Path, name: str, value: str) -> None:
    before = snapshot(own_world)
    pamela("meta-train", *task_of(name), flag(name), value).error(2, flag(name))
    assert snapshot(own_world) == before


@pytest.mark.parametrize("name", TEXTS)
def test_unknown_choice(pamela, here: Path, name: str) -> None:
    message = pamela("meta-train", *SINE, flag(name), "bogus").error(2, flag(name), "bogus")
    for choice in SETTINGS[name].metadata["choices"]:
        assert choice in message
    assert snapshot(here) == {}


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["meta-train", *SINE, "--device", "gpu"], 2, ["--device", "gpu"]),
        (["meta-train", *SINE, "--device", "cpu:1"], 2, ["--device", "cpu:1"]),
        (["meta-train", *SINE, "--bogus"], 2, ["--bogus"]),
        (["meta-train", *SINE, "extra"], 2, ["extra"]),
        (["meta-train", "--dataset"], 2, ["--dataset"]),
        (["train"], 2, ["train"]),
        (["meta-train", "--dataset", "omniglott"], 2, ["omniglott", "did you mean omniglot?"]),
        (["meta-train", "--dataset", "zzz"], 2, ["zzz"]),
        (["meta-train", "--dataset", "there/is/none.h5"], 2, ["there/is/none.h5"]),
        (["meta-train", "--dataset", "none.h5"], 2, ["none.h5"]),
        (["meta-train", "--dataset", "cifar-fs"], 1, ["cifar-fs", "pamela prepare"]),
        (["meta-train", *SINE, "--resume"], 2, ["--resume", "--run"]),
        (["meta-train", "--resume", "--run", "sine-a", "--config", "x.toml"], 2, ["--config", "--resume"]),
        (["meta-train", "--resume", "--run", "none"], 2, ["none", "sine-a"]),
        (["meta-train", *SINE, "--way", "5"], 2, ["--way", "sine"]),
        (["meta-train", *SINE, "--rotations"], 2, ["--rotations", "sine"]),
        (["meta-train", *SINE, "--steps", "1"], 2, ["--steps", "2"]),
        (["meta-train", *SINE, "--skip-interval", "5"], 2, ["--skip-interval", "--steps", "5"]),
        (["meta-train", *SINE, "--method", "meta-sgd", "--skip-interval", "1"], 2, ["--skip-interval"]),
        (["meta-train", *SINE, "--method", "q", "--skip-interval", "1"], 2, ["--skip-interval"]),
        (["meta-train", *TINY, "--way", "7"], 1, ["tiny.h5", "6 classes", "7"]),
        (["meta-train", *TINY, "--shot", "6"], 1, ["tiny.h5", "21"]),
        (["meta-train", *SINE, "--runs-dir", "file"], 1, ["file"]),
        (["meta-train", *SINE, "--runs-dir", "/proc/none"], 1, ["/proc/none"]),
        (["meta-train", *SINE, "--run", "file/x"], 1, ["file/x"]),
        (["evaluate"], 2, ["RUN"]),
        (["evaluate", "none"], 2, ["none", "sine-a"]),
        (["evaluate", "no/such/run"], 2, ["no/such/run"]),
        (["evaluate", "file"], 2, ["file"]),
        (["evaluate", "runs"], 1, ["runs", "config.toml"]),
        (["evaluate", "none", "--runs-dir", "data"], 2, ["none"]),
        (["evaluate", "sine-a", "--split", "testing"], 2, ["--split", "testing"]),
        (["evaluate", "sine-a", "--norm-stats", "all"], 2, ["--norm-stats", "all"]),
        (["evaluate", "sine-a", "--tasks", "1"], 2, ["--tasks", "2"]),
        (["evaluate", "sine-a", "--tasks", "many"], 2, ["--tasks"]),
        (["evaluate", "sine-a", "--steps", "-1"], 2, ["--steps", "-1"]),
        (["evaluate", "sine-a", "--way", "5"], 2, ["--way"]),
        (["evaluate", "sine-a", "--query", "5"], 2, ["--query"]),
        (["evaluate", "sine-a", "--shot", "0"], 2, ["--shot"]),
        (["evaluate", "sine-a", "--seed", "-1"], 2, ["--seed"]),
        (["evaluate", "tiny-a", "--way", "1"], 2, ["--way"]),
        (["evaluate", "tiny-a", "--query", "0"], 2, ["--query"]),
        (["evaluate", "tiny-a", "--shot", "6"], 1, ["tiny.h5", "21"]),
        (["evaluate", "tiny-a", "--device", "gpu"], 2, ["--device", "gpu"]),
        (["evaluate", "tiny-a", "--dataset", "zzz"], 2, ["zzz"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(pamela, own_world: Path, arguments: list[str], code: int, parts: list[str]) -> None:
    (own_world / "file").write_text("kept")
    before = snapshot(own_world)
    pamela(*arguments).error(code, *parts)
    assert snapshot(own_world) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
@pytest.mark.parametrize("command", [["meta-train", *SINE], ["evaluate", "sine-a"]])
def test_cuda_where_there_is_none(pamela, own_world: Path, command: list[str], name: str) -> None:
    before = snapshot(own_world)
    pamela(*command, "--device", name).error(2, f"--device {name}", "--device cpu")
    assert snapshot(own_world) == before


def test_wrong_flag_where_no_dataset_is_named(pamela, here: Path) -> None:
    """Nothing is prepared for a command that cannot run."""
    pamela("meta-train", "--way", 5, "--iterations", 0, "-q").error(2, "--iterations")
    assert snapshot(here) == {}


# Runs in processes of their own ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["bogus"], 2),
        (["--bogus"], 2),
        (["meta-train", "--bogus"], 2),
        (["meta-train", "--steps", "many"], 2),
        (["meta-train", "--inner-lr", "small"], 2),
        (["meta-train", "--shot", "1.5"], 2),
        (["evaluate"], 2),
        (["evaluate", "x", "--tasks", "many"], 2),
        (["prepare"], 2),
        (["prepare", "glyphs", "--image-size", "big"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_in_a_fresh_process(here: Path, arguments: list[str], code: int) -> None:
    fresh(here, *arguments).error(code)
    assert snapshot(here) == {}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["meta-train", *SINE, "--iterations", "0"], 2),
        (["meta-train", *SINE, "--method", "bogus"], 2),
        (["meta-train", *TINY, "--way", "7"], 1),
        (["meta-train", *SINE, "--resume", "--run", "none"], 2),
        (["meta-train", *SINE, "--run", "sine-a"], 2),
        (["meta-train", *SINE, "--config", "none.toml"], 2),
        (["evaluate", "none"], 2),
        (["evaluate", "data"], 1),
        (["evaluate", "tiny-a", "--way", "6"], 2),
        (["prepare", "cifar-fs", "none.zip"], 1),
        (["prepare", "glyphs", "--verify", "--out", "sine-a.json"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_in_a_process(warm, own_world: Path, arguments: list[str], code: int) -> None:
    before = snapshot(own_world)
    warm(own_world, *arguments).error(code)
    assert snapshot(own_world) == before


def test_runs_folder_that_may_not_be_written(warm, own_world: Path) -> None:
    (own_world / "runs").chmod(0o555)
    before = snapshot(own_world)
    result = warm(own_world, "meta-train", *SINE, "--run", "new", powerless=True)
    (own_world / "runs").chmod(0o755)
    result.error(1, "runs/new", "ermission")
    assert snapshot(own_world) == before


def test_run_folder_that_may_not_be_written(warm, own_world: Path) -> None:
    run = own_world / "runs" / "sine-a"
    (run / "summary.json").unlink()
    before = snapshot(own_world)
    run.chmod(0o555)
    result = warm(own_world, "meta-train", "--run", "sine-a", "--resume", "-q", powerless=True)
    run.chmod(0o755)
    result.error(1, "runs/sine-a", "ermission")
    assert snapshot(own_world) == before


@pytest.mark.parametrize("arguments", [["evaluate", "none"], ["evaluate", "data"]])
def test_verbose_shows_where(pamela, own_world: Path, arguments: list[str]) -> None:
    result = pamela(*arguments, "-v")
    assert result.err.startswith("Traceback (most recent call last):")
    assert "find_run" in result.err or "read_config" in result.err
    assert result.err.splitlines()[-1].startswith("error: ")
    assert result.out == ""
    assert result.code == pamela(*arguments).code


# Configuration files ---------------------------------------------------------------------------------

CONFIGS = {
    "unknown key": ("[outer]\niteration = 5\n", ["iteration", "did you mean 'iterations'?"]),
    "unknown section": ("[outerr]\niterations = 5\n", ["outerr", "did you mean 'outer'?"]),
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


@pytest.mark.parametrize("text", ["", "[task\n", '[task]\ndataset = "sine"\nodd = 1\n', "\xff"])
@pytest.mark.parametrize("command", [["evaluate", "sine-a"], ["meta-train", "--run", "sine-a", "--resume"]])
def test_run_with_a_broken_config(pamela, own_world: Path, command: list[str], text: str) -> None:
    run = own_world / "runs" / "sine-a"
    (run / "summary.json").unlink()
    (run / "config.toml").write_text(text, encoding="latin-1")
    before = snapshot(own_world)
    result = pamela(*command, "-q")
    assert result.code in (1, 2)
    result.error(result.code, "runs/sine-a")
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
    other_hdf5: ["no episode store"],
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
    result = pamela("evaluate", "tiny-a")
    assert result.code in (1, 2)
    message = result.error(result.code, "tiny.h5", "--dataset")
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
    before = snapshot(own_world)
    pamela("meta-train", "--run", "tiny-a", "--resume").error(1, "runs/tiny-a/last.safetensors")
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
