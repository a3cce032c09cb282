"""`pamela meta-train`: what it prints, writes and names."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from cli_support import (
    QUICK_SINE,
    QUICK_TINY,
    SINE,
    TINY,
    fresh,
    metrics,
    nameless_summary,
    tensors,
    write_tiny_store,
)
from PIL import Image

from pamela_cli.config import SETTINGS

SUMMARY = {
    "run": str,
    "method": str,
    "dataset": str,
    "iterations": int,
    "seed": int,
    "seconds": float,
    "tasks_per_second": float,
    "skipped_steps": int,
    "val": dict,
    "test": dict,
}
METHOD = {"sine-a": "pamela", "sine-b": "maml", "tiny-a": "pamela", "tiny-b": "q"}


# What is printed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sine-a", "sine-b", "tiny-a", "tiny-b"])
def test_json_is_the_document_of_the_contract(world: Path, name: str) -> None:
    document = json.loads((world / f"{name}.json").read_text())
    assert {key: type(value) for key, value in document.items()} == SUMMARY
    assert list(document) == list(SUMMARY)
    assert document["run"] == name
    assert document["method"] == METHOD[name]
    assert document["dataset"] == name.split("-", maxsplit=1)[0]
    assert document["iterations"] == (40 if name.startswith("sine") else 6)
    assert document["seed"] == (5 if name == "tiny-b" else 0)
    assert document["skipped_steps"] == 0
    assert document["seconds"] > 0
    batch = 4 if name.startswith("sine") else 2
    assert document["tasks_per_second"] == pytest.approx(document["iterations"] * batch / document["seconds"])
    assert (document["val"]["split"], document["test"]["split"]) == ("val", "test")
    assert json.loads((world / "runs" / name / "summary.json").read_text()) == document


def test_json_alone_is_on_stdout_and_messages_on_stderr(pamela) -> None:
    result = pamela(*QUICK_SINE, "--json").ok()
    assert result.out.count("\n") == 1
    assert result.document["iterations"] == 10
    assert "run runs/pamela-sine-10s-s0 on " in result.err
    assert "step 5: validation MSE" in result.err
    assert "step 10: validation MSE" in result.err


@pytest.mark.parametrize("method", ["pamela", "maml", "fomaml", "meta-sgd", "q-shared", "q"])
@pytest.mark.parametrize("dataset", ["sine", "tiny"])
def test_every_method_trains(pamela, world: Path, here: Path, dataset: str, method: str) -> None:
    settings = SINE if dataset == "sine" else [*TINY, "--data-dir", world / "data"]
    steps = 1 if method == "meta-sgd" else 2
    result = pamela(
        *("meta-train", *settings, "--iterations", 2, "--val-every", 1),
        *("--method", method, "--steps", steps, "--json"),
    ).ok()
    assert result.document["method"] == method
    assert result.document["test"]["trained_steps"] == steps


def test_table_without_json(pamela) -> None:
    result = pamela(*QUICK_SINE).ok()
    assert "PAMELA" in result.out
    assert "MSE" in result.out
    with pytest.raises(json.JSONDecodeError):
        _ = result.document


def test_quiet_leaves_the_result_alone(pamela) -> None:
    result = pamela(*QUICK_SINE, "-q").ok()
    assert result.err == ""
    assert "MSE" in result.out


def test_plain_lines_where_there_is_no_terminal(pamela) -> None:
    result = pamela(*QUICK_SINE).ok()
    for stream in (result.out, result.err):
        assert "\x1b" not in stream
        assert "\r" not in stream


# What is written -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sine-a", "tiny-a"])
def test_run_folder(world: Path, name: str) -> None:
    run = world / "runs" / name
    files = {path.name for path in run.iterdir()}
    assert {"config.toml", "metrics.jsonl", "last.safetensors", "best.safetensors"} <= files
    assert {"summary.json", "figures"} <= files
    assert [path for path in files if path.endswith(".tmp")] == []
    events = [path for path in run.iterdir() if "tfevents" in path.name]
    assert len(events) == 1
    assert events[0].stat().st_size > 100
    with Image.open(run / "figures" / "training.png") as image:
        image.load()
        assert image.format == "PNG"
        assert image.width > 300
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 10, "an empty figure"


@pytest.mark.parametrize(("name", "score"), [("sine-a", "mse"), ("tiny-a", "accuracy")])
def test_metrics_lines(world: Path, name: str, score: str) -> None:
    lines = metrics(world / "runs" / name)
    training = [line for line in lines if "loss" in line]
    validation = [line for line in lines if f"val_{score}" in line]
    assert len(training) + len(validation) == len(lines)
    expected = ([10, 20, 30, 40], [20, 40]) if name == "sine-a" else ([6], [3, 6])
    assert ([line["step"] for line in training], [line["step"] for line in validation]) == expected
    for line in training:
        assert set(line) == {"step", "loss", score, "gradient_norm", "skipped"}
        assert line["gradient_norm"] > 0
    raw = [json.loads(line) for line in (world / "runs" / name / "metrics.jsonl").read_text().splitlines()]
    assert all(line["tasks_per_second"] > 0 for line in raw if "loss" in line)


@pytest.mark.parametrize("name", ["sine-a", "sine-b", "tiny-a", "tiny-b"])
def test_checkpoints_open_with_safetensors(world: Path, name: str) -> None:
    run = world / "runs" / name
    last, best = tensors(run / "last.safetensors"), tensors(run / "best.safetensors")
    learned = {"pamela": {"theta", "q", "p"}, "q": {"theta", "q"}, "maml": {"theta"}}[METHOD[name]]
    assert {key.split(".")[0] for key in best} == learned
    assert any(key.startswith("adam.theta") for key in last)
    shapes = {key: value[:2] for key, value in last.items() if not key.startswith("adam.")}
    assert shapes == {key: value[:2] for key, value in best.items()}
    assert {kind for kind, _, _ in best.values()} == {"float32"}


@pytest.mark.parametrize("name", ["sine-a", "tiny-a"])
def test_config_is_complete(world: Path, name: str) -> None:
    document = tomllib.loads((world / "runs" / name / "config.toml").read_text())
    recorded = {key for section in ("task", "inner", "outer", "run") for key in document[section]}
    images_alone = {"way", "store_sha256", "image_size", "channels"} if name == "sine-a" else set()
    begun_at_random = {"init_from", "init_sha256"}
    assert recorded == set(SETTINGS) - images_alone - begun_at_random
    assert document["task"]["dataset"] == name.split("-", maxsplit=1)[0]
    assert document["inner"]["skip_interval"] == (2 if name == "sine-a" else 1)


def test_nothing_in_a_run_names_an_absolute_path(pamela, own_world: Path) -> None:
    store = shutil.move(own_world / "data" / "tiny.h5", own_world / "moved.h5")
    pamela(*QUICK_TINY, "--dataset", store, "--run", own_world / "out" / "x").ok()
    for file in (own_world / "out" / "x").rglob("*"):
        if file.suffix in (".toml", ".jsonl", ".json", ".csv", ".safetensors"):
            assert str(own_world).encode() not in file.read_bytes(), file
    assert tomllib.loads((own_world / "out/x/config.toml").read_text())["task"]["dataset"] == "moved"


@pytest.mark.parametrize("name", ["sine-a", "tiny-a"])
def test_config_of_a_run_trains_it_again(pamela, undrawn: None, own_world: Path, name: str) -> None:
    run = own_world / "runs" / name
    again = pamela("meta-train", "--config", run / "config.toml", "--run", "again").ok()
    assert "runs/again" in again.err
    other = own_world / "runs" / "again"
    assert (other / "best.safetensors").read_bytes() == (run / "best.safetensors").read_bytes()
    assert (other / "config.toml").read_bytes() == (run / "config.toml").read_bytes()
    assert nameless_summary(other) == nameless_summary(run)


def test_flags_win_over_config_which_wins_over_the_recipe(pamela, here: Path) -> None:
    (here / "mine.toml").write_text(
        "# comment\n[task]\nshot = 7\n[outer]\niterations = 4\nval_every = 2\nmeta_lr = 1\n"
    )
    pamela(*QUICK_SINE[:-4], "--config", "mine.toml", "--run", "x", "--val-every", "4").ok()
    document = tomllib.loads((here / "runs/x/config.toml").read_text())
    assert document["task"]["shot"] == 7  # the file's; the recipe has 10
    assert document["task"]["query"] == 10  # the recipe's; the setting's own default is 15
    assert document["outer"]["val_every"] == 4  # the flag's
    assert document["outer"]["meta_lr"] == 1.0


def test_dataset_of_a_config_file(pamela, here: Path) -> None:
    (here / "mine.toml").write_text('[task]\ndataset = "sine"\n[outer]\niterations = 4\ntest_tasks = 4\n')
    result = pamela("meta-train", "--config", "mine.toml", "--json", "--no-figures", "--val-tasks", "4").ok()
    assert result.document["dataset"] == "sine"


# The same bits ---------------------------------------------------------------------------------------


def test_same_seed_same_bits_in_another_process(world: Path, here: Path) -> None:
    result = fresh(
        here,
        *("meta-train", *SINE, "--iterations", "40", "--val-every", "20", "--run", "sine-a", "--json"),
    ).ok()
    assert result.document["run"] == "sine-a"
    mine, theirs = here / "runs/sine-a", world / "runs/sine-a"
    assert (mine / "best.safetensors").read_bytes() == (theirs / "best.safetensors").read_bytes()
    assert tensors(mine / "last.safetensors") == tensors(theirs / "last.safetensors")
    assert nameless_summary(mine) == nameless_summary(theirs)


def test_seed_decides_the_bits_of_images(pamela, own_world: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        pamela(*QUICK_TINY, "--run", name, "--seed", seed).ok()
    one, again, two = (own_world / "runs" / n / "best.safetensors" for n in ("one", "again", "two"))
    assert one.read_bytes() == again.read_bytes()
    assert one.read_bytes() != two.read_bytes()


# Divergence ------------------------------------------------------------------------------------------

ABSURD = ["meta-train", *SINE, "--iterations", "200", "--inner-lr", "100", "--clip", "0", "--steps", "10"]


def test_divergence_ends_with_a_sentence_and_a_checkpoint(pamela, here: Path) -> None:
    message = pamela(*ABSURD, "--run", "wild", "-q").error(1, "diverged", "not finite", "--inner-lr")
    assert re.search(r"\d+ of the last 100", message)
    run = here / "runs" / "wild"
    assert tensors(run / "last.safetensors")
    assert not (run / "summary.json").exists()
    assert sum(line["skipped"] for line in metrics(run)) > 50


@pytest.mark.parametrize("iterations", [20, 200])
def test_a_run_that_diverged_has_not_got_better_since(pamela, here: Path, iterations: int) -> None:
    said = pamela(*ABSURD, "--iterations", iterations, "--run", "wild", "-q").error(1, "training diverged")
    assert pamela("meta-train", "--run", "wild", "--resume", "-q").error(1) == said
    assert not (here / "runs" / "wild" / "summary.json").exists()


def test_a_run_that_diverged_is_no_unfinished_one(pamela, here: Path) -> None:
    pamela(*ABSURD, "--run", "wild", "-q").error(1, "diverged")
    (entry,) = pamela("report", "--list", "--json").ok().document["runs"]
    assert (entry["status"], entry["test"]) == ("diverged", None)
    listed = pamela("report", "--list").ok().out
    assert "diverged" in listed and "unfinished" not in listed
    pamela("report", "wild", "-q").ok()
    page = (here / "runs" / "wild" / "report.html").read_text()
    assert "This run has no result: it diverged." in page
    assert "To continue it" not in page


def test_divergence_does_not_advise_to_lower_what_is_off(pamela) -> None:
    message = pamela(*ABSURD, "-q").error(1, "diverged")
    assert "lower --clip (now 0)" not in message


def test_settings_of_a_run_serve_for_another_dataset(pamela, own_world: Path) -> None:
    """Its file names the store that it was made for, but a flag wins over it."""
    write_tiny_store(own_world / "data" / "other.h5", seed=7)
    config = [
        "--config",
        "runs/tiny-a/config.toml",
        "--iterations",
        2,
        "--val-every",
        2,
        "--no-figures",
        "-q",
    ]
    pamela("meta-train", *config, "--dataset", "other", "--run", "elsewhere").ok()
    (own_world / "data" / "other.h5").rename(own_world / "data" / "tiny.h5")
    pamela("meta-train", *config).error(1, "is not the store that runs/tiny-a/config.toml was made for")
