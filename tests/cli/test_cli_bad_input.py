"""Wrong usage of `meta-train` and `evaluate`: one sentence, and nothing changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_support import SINE, TINY, fresh, snapshot

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
        (["meta-train", "--dataset", "zzz"], 2, ["zzz", "data has tiny"]),
        (["meta-train", "--dataset", ""], 2, ["--dataset is empty"]),
        (["ablate", "--dataset", ""], 2, ["--dataset is empty"]),
        (["evaluate", "sine-a", "--dataset="], 2, ["--dataset is empty"]),
        (["prepare", "folder", ""], 2, ["the argument after 'folder' is empty"]),
        ([""], 2, ["the command is empty"]),
        (["evaluate", "x" * 300], 2, ["x… is too long"]),
        (["meta-train", *SINE, "--run", "x" * 300], 2, ["x… is too long"]),
        (["meta-train", "--dataset", "x" * 300], 2, ["x… is too long"]),
        (["predict", "x" * 300, "a", "b"], 2, ["x… is too long"]),
        (["report", "x" * 300], 2, ["x… is too long"]),
        (["meta-train", "--dataset", "tinny"], 2, ["there is no such dataset; did you mean tiny?"]),
        (["meta-train", "--method", "MAML"], 2, ["--method must be one of", "did you mean maml?"]),
        (["meta-train", "--dataset", "folder"], 1, ["make it with `pamela prepare folder SOURCE`."]),
        (["prepare", "sine"], 2, ["sine needs no preparation"]),
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
        (["meta-train", *TINY, "--crop", "9"], 2, ["--crop 9", "16 pixels", "lower it"]),
        (["meta-train", *TINY, "--shot", "6"], 1, ["tiny.h5", "21"]),
        (["meta-train", *SINE, "--runs-dir", "file"], 1, ["file"]),
        (["meta-train", *SINE, "--runs-dir", "/proc/none"], 1, ["/proc/none"]),
        (["meta-train", *SINE, "--run", "file/x"], 1, ["file/x"]),
        (["evaluate"], 2, ["RUN"]),
        (["evaluate", "none"], 2, ["none", "sine-a"]),
        (["evaluate", "no/such/run"], 2, ["no/such/run"]),
        (["evaluate", "file"], 2, ["file"]),
        (["evaluate", "runs"], 2, ["runs", "config.toml"]),
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
        (["meta-train", "--steps", "many"], 2),
        (["evaluate", "x", "--tasks", "many"], 2),
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
        (["--bogus"], 2),
        (["meta-train", "--bogus"], 2),
        (["meta-train", "--inner-lr", "small"], 2),
        (["meta-train", "--shot", "1.5"], 2),
        (["evaluate"], 2),
        (["prepare"], 2),
        (["meta-train", *SINE, "--iterations", "0"], 2),
        (["meta-train", *SINE, "--method", "bogus"], 2),
        (["meta-train", *TINY, "--way", "7"], 1),
        (["meta-train", *SINE, "--resume", "--run", "none"], 2),
        (["meta-train", *SINE, "--run", "sine-a"], 2),
        (["meta-train", *SINE, "--config", "none.toml"], 2),
        (["evaluate", "none"], 2),
        (["evaluate", "data"], 2),
        (["evaluate", "tiny-a", "--way", "6"], 2),
        (["prepare", "cifar-fs", "none.zip"], 2),
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
