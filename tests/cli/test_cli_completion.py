"""What the shell offers where a word has begun."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import environment


def completed(folder: Path, *words: str, **variables: str) -> list[str]:
    """What bash is told about the last word of `pamela WORDS`."""
    asking = {
        "_PAMELA_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["pamela", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pamela_cli"],
        cwd=folder,
        env=environment() | asking | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("runs/pamela-sine", "runs/maml-sine", "elsewhere/pamela-other"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.toml").touch()
    (tmp_path / "runs" / "pamela-page").mkdir()
    (tmp_path / "runs" / "ablation-sine").mkdir()
    (tmp_path / "runs" / "ablation-sine" / "ablation.json").touch()
    (tmp_path / "runs" / ".pamela.partial").mkdir()
    (tmp_path / "runs" / ".pamela.partial" / "config.toml").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar-fs.h5").touch()
    (tmp_path / "data" / ".hidden.h5").touch()
    return tmp_path


def test_commands_and_options(folder: Path) -> None:
    assert completed(folder, "me") == ["meta-train"]
    assert completed(folder, "meta-train", "--skip") == ["--skip-interval"]


@pytest.mark.parametrize("command", [["evaluate"], ["predict"], ["report"], ["meta-train", "--run"]])
def test_names_of_runs(folder: Path, command: list[str]) -> None:
    assert completed(folder, *command, "pam") == ["pamela-sine"]


def test_runs_are_those_of_the_folder_that_is_named(folder: Path) -> None:
    assert completed(folder, "evaluate", "--runs-dir", "elsewhere", "pam") == ["pamela-other"]
    assert completed(folder, "evaluate", "pam", PAMELA_RUNS_DIR="elsewhere") == ["pamela-other"]
    assert completed(folder, "evaluate", "--runs-dir", "nowhere", "pam") == []


def test_ablations_are_for_reports(folder: Path) -> None:
    assert completed(folder, "report", "") == ["ablation-sine", "maml-sine", "pamela-sine"]
    assert completed(folder, "evaluate", "") == ["maml-sine", "pamela-sine"]


def test_datasets(folder: Path) -> None:
    assert completed(folder, "meta-train", "--dataset", "") == ["cifar-fs", "glyphs", "sine"]
    assert completed(folder, "evaluate", "pamela-sine", "--dataset", "ci") == ["cifar-fs"]
    assert completed(folder, "prepare", "fc") == ["fc100"]


def test_choices(folder: Path) -> None:
    assert completed(folder, "meta-train", "--method", "q") == ["q", "q-shared"]
    assert completed(folder, "evaluate", "--norm-stats", "s") == ["support"]
    assert completed(folder, "ablate", "--vary", "s") == ["skip-interval", "steps"]
    assert completed(folder, "meta-train", "--shot", "") == []
