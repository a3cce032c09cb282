"""What `pamela evaluate` has found of the runs whose results are kept, and its place on their page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_plan import SMALL
from cli_support import snapshot

from pamela_cli.errors import PamelaError
from pamela_cli.reproducing import kept as kept_results
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
    assert maml[:3] == ["MAML", "0", "`--tasks 8 --seed 3`"] and maml[4].startswith("`five-pamela-s0`: ")
    assert [row[2] for row in pamelas] == ["`--tasks 8 --seed 3`", "`--steps 7`"]
    assert pamelas[0][4].startswith("`five-maml-s0`: ") and pamelas[1][4] == ""
    assert pamelas[1][3].startswith(f"{found['mse']:.4f} ± ")
    assert all(row[5].endswith(f", PyTorch {torch.__version__}`") for row in (maml, *pamelas))


def test_without_options_only_what_was_compared_is_shown(pamela, mine: Path) -> None:
    pamela("evaluate", *RUNS, "--tasks", 6, "--no-figures", "-q").ok()
    pamela("reproduce", "--collect", "-q").ok()
    assert [row[2] for row in table()] == ["as at the end of training"] * 2
    assert [row[4].partition(":")[0].strip("`") for row in table()] == list(
        RUNS
    )  # MAML over PAMELA, and the reverse


def test_results_that_were_kept_without_their_runs_keep_it(pamela, mine: Path) -> None:
    pamela("evaluate", RUNS[0], "--tasks", 8, "--no-figures", "-q").ok()
    pamela("reproduce", "--collect", "-q").ok()
    before = snapshot(Path("results"))
    assert len(kept()) == 1
    Path("runs", RUNS[0], "evaluations.jsonl").unlink()
    pamela("reproduce", "--collect", "-q").ok()
    shutil.rmtree("runs")
    pamela("reproduce", "--collect", "-q").ok()
    assert snapshot(Path("results")) == before


def test_what_was_found_of_another_checkpoint_is_not_kept(pamela, mine: Path) -> None:
    """As of an unfinished run, whose best was another one, or by a version that did not say."""
    pamela("evaluate", RUNS[0], "--tasks", 8, "--no-figures", "-q").ok()
    file = Path("runs", RUNS[0], "evaluations.jsonl")
    line = json.loads(file.read_text())
    unsaid = {name: value for name, value in line.items() if name != "checkpoint"}
    file.write_text(json.dumps(line | {"checkpoint": "0" * 64}) + "\n" + json.dumps(unsaid) + "\n")
    pamela("reproduce", "--collect", "-q").ok()
    assert not Path("results/five/pamela-s0/evaluations.json").exists()


def test_a_copy_of_the_run_counts_and_another_run_of_its_settings_does_not(pamela, mine: Path) -> None:
    shutil.copytree(Path("runs", RUNS[0]), Path("runs", "a"))
    pamela("evaluate", "a", "--tasks", 9, "--no-figures", "-q").ok()
    pamela("evaluate", RUNS[0], "--tasks", 8, "--no-figures", "-q").ok()
    pamela("reproduce", "--collect", "-q").ok()
    assert [each["tasks"] for each in kept()] == [9, 8]


def test_gains_over_all_runs_are_kept_and_the_newest_results(pamela, mine: Path) -> None:
    shutil.copytree(Path("runs", RUNS[1]), Path("runs", "b"))
    for others in ([RUNS[1]], ["b"], []):
        pamela("evaluate", RUNS[0], *others, "--tasks", 8, "--no-figures", "-q").ok()
    pamela("reproduce", "--collect", "-q").ok()
    (found,) = kept()
    assert [gain["with"] for gain in found["compared"]] == [RUNS[1], "b"]
    file = Path("runs", RUNS[0], "evaluations.jsonl")
    line = json.loads(file.read_text().splitlines()[-1])
    file.write_text(json.dumps(line | {"evaluated": "2020-01-01T00:00:00+00:00", "mse": 7.0}) + "\n")
    pamela("reproduce", "--collect", "-q").ok()
    assert kept()[0]["mse"] == found["mse"]


def test_what_cannot_be_written_costs_neither_the_page_nor_the_others(
    pamela, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pamela("evaluate", *RUNS, "--tasks", 8, "--no-figures", "-q").ok()
    write = kept_results.write_atomically

    def refused(path: Path, text: str) -> None:
        if path.parent.name == "pamela-s0":
            raise PamelaError(f"{path} cannot be written.")
        write(path, text)

    monkeypatch.setattr(kept_results, "write_atomically", refused)
    Path("results/README.md").unlink()
    said = pamela("reproduce", "--collect", "-q").ok().err
    assert "what was found of runs/five-pamela-s0 cannot be kept" in said
    assert [row[0] for row in table()] == ["MAML"]


def test_whatever_a_stranger_has_written_there(pamela, mine: Path) -> None:
    pamela("evaluate", *RUNS, "--tasks", 8, "--no-figures", "-q").ok()
    file = Path("runs", RUNS[0], "evaluations.jsonl")
    good = json.loads(file.read_text())
    other = {"with": "a | `b`\n# c", "difference": 1.0, "ci95": None}
    lines = [
        good | {"tasks": 9, "dataset": "x | y\n# z", "compared": [{**other, "ci95": 0.5}, other, 3, "?"],
                "environment": {"cpu": "p | q\n# e"}},
        {name: value for name, value in good.items() if not name.startswith("mse")}
        | {"tasks": 10, "accuracy": 0.5, "accuracy_per_step": [0.5], "way": 5, "norm_stats": "query"},
        good | {"tasks": 11, "tta": "yes"}, good | {"tasks": 12, "mse": None, "environment": "here"},
        {"mse": 1.0}, [], 7,
    ]  # fmt: skip
    with file.open("a") as more:
        more.writelines(json.dumps(line) + "\n" for line in lines)
        more.write("{\n")
    pamela("reproduce", "--collect", "-q").ok()
    assert [each["tasks"] for each in kept()] == [8, 9, 10, 12]
    text = Path("results/README.md").read_text()
    assert "\n# z" not in text and "\n# c" not in text
    (_, *rows) = table()
    assert [row[2].split()[1].strip("`") for row in rows] == ["8", "x", "12"]
    assert "`--dataset x ¦ y # z --tasks 9`" in rows[1][2] and rows[1][4].startswith("`a ¦ 'b' # c`: ")
    assert rows[2][3] == "not finite"
    assert "\n# e" not in text and "p ¦ q # e" in rows[1][5]
    assert rows[2][5] == "not recorded"  # as by earlier versions
    Path("results/five/pamela-s0/evaluations.json").write_text("{}")
    Path("results/five/maml-s0/evaluations.json").write_text("[")
    pamela("reproduce", "--collect", "-q").ok()
    assert len(kept()) == 4 and len(kept("maml-s0")) == 1
