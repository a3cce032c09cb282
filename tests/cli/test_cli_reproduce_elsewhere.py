"""Results of runs that were trained elsewhere, or whose stores are called otherwise."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from cli_support import QUICK_TINY

from pamela_cli.reproducing import plan, reproducing
from pamela_cli.signals import stopped_by

PLAN = """
[figures]
tiny = "Tiny"

[[group]]
name = "tiny"
title = "Tiny images"
figure = "tiny"
cells = { pamela = [0] }

[group.settings]
dataset = "tiny"
width = 4
steps = 2
meta_batch = 2
inner_lr = 0.3
val_tasks = 4
test_tasks = 4
iterations = 4
val_every = 2
"""
DONE = {"tiny/pamela-s0": "done"}


@pytest.fixture(autouse=True)
def small_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "plan_text", lambda: PLAN)


def collected(pamela, *options: str) -> dict[str, str]:
    document = pamela("reproduce", "--collect", "--json", *options).ok().document
    return {cell["cell"]: cell["status"] for cell in document["cells"]}


def train(pamela, dataset: str = "tiny") -> None:
    shutil.rmtree("runs")
    pamela(*(dataset if word == "tiny" else word for word in QUICK_TINY), "--run", "mine").ok()


def test_what_a_store_is_called_does_not_count(pamela, own_world: Path) -> None:
    shutil.copy("data/tiny.h5", "data/other.h5")
    train(pamela, "other")
    assert collected(pamela) == DONE
    assert 'dataset = "other"' in Path("results/tiny/pamela-s0/config.toml").read_text()
    assert collected(pamela) == DONE  # from what is kept
    assert pamela("reproduce", "--list", "--json").ok().document["cells"][0]["status"] == "done"


def test_runs_are_collected_without_their_dataset(pamela, own_world: Path) -> None:
    train(pamela)
    shutil.rmtree("data")
    assert collected(pamela) == DONE


@pytest.mark.parametrize(
    ("was", "is_now"), [("inner_lr = 0.3", "inner_lr = 0.2"), ('dataset = "tiny"', 'dataset = "other"')]
)
def test_without_its_dataset_a_run_of_other_settings_is_none(
    pamela, own_world: Path, was: str, is_now: str
) -> None:
    train(pamela)
    shutil.rmtree("data")
    config = Path("runs/mine/config.toml")
    assert was in config.read_text()
    config.write_text(config.read_text().replace(was, is_now))
    assert collected(pamela) == {"tiny/pamela-s0": "no data"}


@pytest.mark.parametrize("results", ["results", "again"])
def test_the_page_gives_the_commands_of_its_folder(pamela, own_world: Path, results: str) -> None:
    train(pamela)
    collected(pamela, "--results", results)
    command = f"pamela meta-train --config {results}/tiny/pamela-s0/config.toml"
    assert command in Path(results, "README.md").read_text()


def test_a_check_that_is_stopped_says_that_nothing_is_kept(
    pamela, own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise stopped_by(signal.SIGINT, "everything is saved")

    monkeypatch.setattr(reproducing, "train_cells", stopped)
    pamela("reproduce", "tiny", "--check").error(130, "0 of 1 cells were checked; nothing is kept.")
