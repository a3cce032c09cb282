"""Fixtures of the tests of the command line."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_page import Page
from cli_photos import Predict, write_task
from cli_support import QUICK_TINY, SINE, TINY, Result, WarmProcesses, command_line, write_tiny_store
from matplotlib.figure import Figure
from PIL import Image

from data_prep import Store
from pamela_cli import cli
from pamela_cli.console import Console

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def _clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test starts in a folder of its own, without settings from the environment."""
    for name in [*os.environ]:
        if name.startswith("PAMELA_") or name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")
    # As for the processes that tests start: on a GPU, if there is one, other tests compute.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    # A process runs one command: what it remembers of it must not reach the next test.
    monkeypatch.setattr(cli, "_console", Console())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def here() -> Path:
    """The working directory of the test."""
    return Path.cwd()


@pytest.fixture
def pamela(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process."""
    monkeypatch.setattr(cli, "app", command_line())

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, but not drawn, which takes a second each: an empty picture, and the numbers."""

    def savefig(self: Figure, path: Path, format: str, **_: Any) -> None:
        if format == "png":
            Image.new("RGB", (1000, 600), "white").save(path, format=format)

    monkeypatch.setattr(Figure, "savefig", savefig)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmProcesses]:
    """Run commands in processes of their own, which have torch imported when they start."""
    processes = WarmProcesses(tmp_path_factory.mktemp("warm"))
    yield processes
    processes.close()


@pytest.fixture(scope="session")
def world(made_once, warm: WarmProcesses) -> Path:
    """A folder with ``data/tiny.h5`` and finished runs, not to be changed.

    Runs: sine-a (pamela) and sine-b (maml); tiny-a (pamela) and tiny-b (q, seed 5), 5-way 1-shot. All
    but tiny-b have their figures.
    """
    return made_once("world", lambda folder: make_world(folder, warm))


def make_world(folder: Path, warm: WarmProcesses) -> None:
    write_tiny_store(folder / "data" / "tiny.h5")
    sine = ["meta-train", *SINE, "--iterations", "40", "--val-every", "20", "-q", "--json"]
    tiny = ["meta-train", *TINY, "--iterations", "6", "--val-every", "3", "-q", "--json"]
    for base, method, name in (
        ([*sine, "--figures"], "pamela", "sine-a"),
        ([*sine, "--figures"], "maml", "sine-b"),
        ([*tiny, "--figures"], "pamela", "tiny-a"),
        ([*tiny, "--seed", "5"], "q", "tiny-b"),
    ):
        result = warm(folder, *base, "--method", method, "--run", name).ok()
        (folder / f"{name}.json").write_text(result.out)


@pytest.fixture(scope="session")
def quick(made_once, warm: WarmProcesses) -> Path:
    """A folder with ``data/tiny.h5`` and the run that is ``QUICK_TINY``, tiny; not to be changed."""

    def train(folder: Path) -> None:
        write_tiny_store(folder / "data" / "tiny.h5")
        warm(folder, *QUICK_TINY, "--run", "tiny").ok()

    return made_once("quick", train)


@pytest.fixture
def own_world(world: Path, here: Path) -> Path:
    """A copy of the world as the working directory, to be changed at will."""
    # Tests that evaluate in the world itself leave their results there, and nothing else.
    shutil.copytree(world, here, dirs_exist_ok=True, ignore=shutil.ignore_patterns("evaluations.jsonl"))
    return here


@pytest.fixture
def report(pamela, undrawn: None, own_world: Path) -> Callable[..., Page]:
    """Report runs of the world and read the page; its figures are empty."""

    def run(*arguments: object) -> Page:
        page = Page(Path(pamela("report", *arguments, "--json").ok().document["report"]))
        page.assert_alone()
        return page

    return run


@pytest.fixture(scope="module")
def tasks(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first four frozen tasks of the tiny store as folders 0…3."""
    folder = tmp_path_factory.mktemp("tasks")
    with Store.open(world / "data" / "tiny.h5") as store:
        for task in range(4):
            write_task(store, task, folder / str(task))
    return folder


@pytest.fixture
def predict(pamela, world: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Predict with a run of the world, in the folder of its first task, without a figure."""
    monkeypatch.chdir(tasks / "0")
    places = ["--runs-dir", world / "runs", "--data-dir", world / "data"]

    def run(*arguments: object, figure: bool = False) -> Result:
        return pamela("predict", *arguments, *places, *([] if figure else ["--no-figures"]))

    return run


@pytest.fixture
def evaluate(pamela, world: Path) -> Command:
    """Evaluate runs of the world on few tasks, without figures; returns the result of the command."""
    places = ["--data-dir", world / "data", "--runs-dir", world / "runs", "--no-figures", "--json"]

    def run(*arguments: object, tasks: int | None = 6) -> Result:
        count = ["--tasks", tasks] if tasks else []
        return pamela("evaluate", *arguments, *count, *places)

    return run
