"""What `pamela evaluate` has found of the runs whose results are kept, and its place on their page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_plan import SMALL
from cli_support import snapshot

from pamela_cli.reproducing import plan

PLAN = f"""
[figures]
sine = "Sine waves"

[[group]]
name = "five"
title = "Five points"
figure = "sine"
cells = {{ pamela = [0], maml = [0] }}
settings = {{ {SMALL}, shot = 5 }}
"""
RUNS = ("five-pamela-s0", "five-maml-s0")


@pytest.fixture
def mine(made_once, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two runs, their results and the page, on the plan above."""
    monkeypatch.setattr(plan, "plan_text", lambda: PLAN)

    def reproduce(folder: Path) -> None:
        from pamela_cli import cli

        with monkeypatch.context() as patch:
            patch.chdir(folder)
            assert cli.run(["reproduce", "-q"]) == 0

    shutil.copytree(made_once("reproduced", reproduce), here, dirs_exist_ok=True)
    return here


def kept(name: str = "pamela-s0") -> Any:
    return json.loads(Path("results/five", name, "evaluations.json").read_text())


def table() -> list[list[str]]:
    """The rows of the table of further evaluations."""
    page = Path("results/README.md").read_text()
    assert page.count("By `pamela evaluate RUN…` with these options:") == 1
    lines = page.partition("By `pamela evaluate RUN…`")[2].split("\n\n")[1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_what_was_found_is_kept_and_shown(pamela, mine: Path) -> None:
    pamela("evaluate", *RUNS, "--tasks", 8, "--seed", 3, "--no-figures", "-q").ok()
    found = pamela("evaluate", RUNS[0], "--steps", 7, "--tasks", 6, "--no-figures", "--json").ok().document
    pamela("evaluate", RUNS[0], "--tasks", 6, "--no-figures", "-q").ok()  # as at the end of training
    pamela("evaluate", RUNS[1], "--tasks", 6, "--no-figures", "-q").ok()
    assert "By `pamela evaluate" not in Path("results/README.md").read_text()
    pamela("reproduce", "--collect", "-q").ok()
    assert [each["mse"] for each in kept()][1] == found["mse"] and len(kept()) == 3
    (gain,) = kept()[0]["compared"]
    assert (gain["with"], gain["difference"]) == (RUNS[1], -kept("maml-s0")[0]["compared"][0]["difference"])
    maml, *pamelas = table()
    assert maml[:3] == ["MAML", "0", "`--tasks 8 --seed 3`"] and maml[4].startswith("five-pamela-s0: ")
    assert [row[2] for row in pamelas] == ["`--tasks 8 --seed 3`", "`--steps 7`"]
    assert pamelas[0][4].startswith("five-maml-s0: ") and pamelas[1][4] == ""
    assert pamelas[1][3].startswith(f"{found['mse']:.4f} ± ")


def test_without_options_only_what_was_compared_is_shown(pamela, mine: Path) -> None:
    pamela("evaluate", *RUNS, "--tasks", 6, "--no-figures", "-q").ok()
    pamela("reproduce", "--collect", "-q").ok()
    assert [row[2] for row in table()] == ["none", "none"]
    assert [row[4].partition(":")[0] for row in table()] == list(RUNS)  # MAML over PAMELA, and the reverse


def test_results_that_were_kept_without_their_runs_keep_it(pamela, mine: Path) -> None:
    pamela("evaluate", RUNS[0], "--tasks", 8, "--no-figures", "-q").ok()
    pamela("reproduce", "--collect", "-q").ok()
    before = snapshot(Path("results"))
    Path("runs", RUNS[0], "evaluations.jsonl").unlink()
    pamela("reproduce", "--collect", "-q").ok()
    shutil.rmtree("runs")
    pamela("reproduce", "--collect", "-q").ok()
    assert snapshot(Path("results")) == before


def test_of_another_checkpoint_nothing_is_kept(pamela, mine: Path) -> None:
    pamela("evaluate", RUNS[0], "--tasks", 8, "--no-figures", "-q").ok()
    about = Path("results/five/pamela-s0/checkpoint.json")
    about.write_text(json.dumps(json.loads(about.read_text()) | {"sha256": "0" * 64}))
    pamela("reproduce", "--collect", "-q").ok()
    assert not Path("results/five/pamela-s0/evaluations.json").exists()


def test_whatever_a_stranger_has_written_there(pamela, mine: Path) -> None:
    pamela("evaluate", *RUNS, "--tasks", 8, "--no-figures", "-q").ok()
    file = Path("runs", RUNS[0], "evaluations.jsonl")
    good = json.loads(file.read_text())
    other = {"with": "a | `b`\n# c", "difference": 1.0, "ci95": None}
    lines = [
        good | {"tasks": 9, "dataset": "x | y\n# z", "compared": [{**other, "ci95": 0.5}, other, 3, "?"]},
        good | {"tasks": 10, "accuracy": 0.5, "accuracy_per_step": [0.5], "way": 5, "norm_stats": "query"},
        {"mse": 1.0}, [], 7,
    ]  # fmt: skip
    with file.open("a") as more:
        more.writelines(json.dumps(line) + "\n" for line in lines)
        more.write("{\n")
    pamela("reproduce", "--collect", "-q").ok()
    text = Path("results/README.md").read_text()
    assert "\n# z" not in text and "\n# c" not in text and r"x \| y # z" in text
    Path("results/five/pamela-s0/evaluations.json").write_text("{}")
    Path("results/five/maml-s0/evaluations.json").write_text("[")
    pamela("reproduce", "--collect", "-q").ok()
    assert len(kept()) >= 2 and len(kept("maml-s0")) == 1
