"""Help, version, and what starting costs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import environment, fresh

import pamela_cli
from data_prep.sources import dataset_infos

HEAVY = ("torch", "h5py", "matplotlib", "numpy", "safetensors", "tensorboard", "fontTools", "jinja2")


def test_help_names_every_command(here: Path) -> None:
    result = fresh(here, "--help").ok()
    for name in ("prepare", "meta-train", "evaluate", "predict", "complexity", "report"):
        assert name in result.out
    assert result.err == ""


def test_help_without_a_command(pamela) -> None:
    """No command at all: the help, and the exit code of wrong usage."""
    result = pamela()
    assert result.code == 2
    assert "meta-train" in result.out + result.err


@pytest.mark.parametrize(
    ("command", "options", "example"),
    [
        ("prepare", ["--out", "--force", "--verify", "--workers"], "pamela prepare glyphs"),
        (
            "meta-train",
            ["--dataset", "--method", "--skip-interval", "--phi-lr", "--resume", "--config", "--device"],
            "pamela meta-train --way 5 --shot 1",
        ),
        ("evaluate", ["--split", "--norm-stats", "--seed", "--tasks"], "pamela evaluate"),
        ("predict", ["--top", "--csv", "--save", "--norm-stats", "--figure"], "pamela predict"),
        ("report", ["--out", "--list"], "pamela report"),
        ("reproduce", ["--list", "--check", "--results", "--collect"], "pamela reproduce"),
        ("complexity", ["--methods", "--image-size", "--way", "--repetitions"], "pamela complexity"),
    ],
)
def test_help_of_a_command_shows_examples(pamela, command: str, options: list[str], example: str) -> None:
    result = pamela(command, "--help").ok()
    for option in [*options, "--json", "--quiet", "--verbose", "--data-dir", "--runs-dir"]:
        assert option in result.out, option
    assert "Examples" in result.out
    assert example in result.out.split("Examples")[1]


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("prepare", "pamela prepare [OPTIONS] [NAME] [SOURCE]"),
        ("evaluate", "pamela evaluate [OPTIONS] RUN…"),
        ("predict", "pamela predict [OPTIONS] RUN SUPPORT_DIR QUERY…"),
        ("report", "pamela report [OPTIONS] [RUN…]"),
    ],
)
def test_help_shows_no_types_of_the_program(pamela, command: str, usage: str) -> None:
    shown = pamela(command, "--help").ok().out
    assert shown.split("Usage: ")[1].splitlines()[0].rstrip() == usage
    assert "<" not in shown


def test_every_dataset_is_in_the_help(pamela) -> None:
    shown = pamela("prepare", "--help").ok().out
    assert [info.name for info in dataset_infos() if info.name not in shown] == []


def test_short_help_is_the_same(pamela) -> None:
    assert pamela("evaluate", "-h").ok().out == pamela("evaluate", "--help").ok().out


def test_version(here: Path, pamela) -> None:
    result = pamela("--version").ok()
    assert result.out == f"pamela {pamela_cli.__version__}\n"
    assert re.fullmatch(r"pamela \d+\.\d+\.\d+\S*\n", result.out)
    assert fresh(here, "--version").out == result.out


def test_installed_command_and_module_are_the_same(here: Path) -> None:
    script = Path(sys.executable).with_name("pamela")
    if not script.exists():
        pytest.skip("the package is not installed as a command")
    done = subprocess.run(
        [script, "--help"], cwd=here, env=environment(), capture_output=True, text=True, check=True
    )
    listed = done.stdout.partition("Commands")[2]
    assert listed
    assert listed == fresh(here, "--help").out.partition("Commands")[2]


def run_apart(cwd: Path, *arguments: str) -> tuple[str, list[str]]:
    """What a command prints in a process of its own, and the modules that it has imported by its end."""
    code = (
        "import json, sys\n"
        "from pamela_cli.cli import run\n"
        f"code = run({list(arguments)!r})\n"
        "print(json.dumps([code, sorted(sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment(), capture_output=True, text=True, check=True
    )
    *shown, last = done.stdout.splitlines()
    exit_code, modules = json.loads(last)
    assert exit_code == 0
    assert "typer" in modules  # the list is that of a process that ran the command line
    return "\n".join(shown), modules


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["meta-train", "--help"], ["prepare", "--help"]]
)
def test_help_imports_nothing_heavy(here: Path, arguments: list[str]) -> None:
    _, modules = run_apart(here, *arguments)
    assert [name for name in HEAVY if name in modules] == []


def test_runs_are_listed_without_pytorch(world: Path) -> None:
    """Importing it takes longer than all the rest."""
    listed, modules = run_apart(world, "report", "--list")
    assert "sine-a" in listed
    assert "torch" not in modules
