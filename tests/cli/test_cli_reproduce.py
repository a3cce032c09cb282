"""`pamela reproduce`: cells of a plan are trained, kept, found again, and set beside each other on a page."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_plan import PLAN
from cli_support import assert_same_run, snapshot
from safetensors.numpy import save_file

from pamela_cli.engine.intervals import mean_ci95
from pamela_cli.reproducing import kept, plan
from pamela_cli.reproducing.plan import read_plan
from pamela_cli.runs import RunFolder
from pamela_cli.scores import StoredScores, read_scores, write_scores

ABSURD = "iterations = 200, inner_lr = 100, clip = 0.0, steps = 10"
KEPT = {"config.toml", "summary.json", "environment.json", "metrics.csv", "scores.json", "checkpoint.json"}
CELLS = ["five/pamela-s0", "five/pamela-s1", "five/maml-s0", "five/maml-s1", "ten/maml-s0", "tiny/pamela-s0"]


@pytest.fixture(autouse=True)
def small_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "plan_text", lambda: PLAN)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything that there is data for was reproduced; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "plan_text", lambda: PLAN)
        patch.chdir(folder)
        from pamela_cli import cli

        assert cli.run(["reproduce", "-q"]) == 0
    return folder


@pytest.fixture
def mine(made: Path, here: Path) -> Path:
    shutil.copytree(made, here, dirs_exist_ok=True)
    return here


def scores_of(run: RunFolder) -> StoredScores:
    return read_scores(run.scores, run.read_config()[0])["test"]


def statuses(document: dict[str, Any]) -> dict[str, str]:
    return {cell["cell"]: cell["status"] for cell in document["cells"]}


# Training and keeping --------------------------------------------------------------------------------


def test_what_there_is_data_for_is_trained_and_kept(made: Path) -> None:
    folders = {path.parent.relative_to(made / "results") for path in made.glob("results/*/*/summary.json")}
    assert sorted(map(str, folders)) == sorted(CELLS[:-1])
    for folder in folders:
        assert {path.name for path in (made / "results" / folder).iterdir()} == KEPT


def test_what_is_kept_is_what_the_run_has(made: Path) -> None:
    run, kept = RunFolder(made / "runs" / "five-pamela-s1"), made / "results" / "five" / "pamela-s1"
    assert (kept / "config.toml").read_text() == run.config_file.read_text()
    assert json.loads((kept / "summary.json").read_text()) == run.read_summary()
    scores = json.loads((kept / "scores.json").read_text())
    test = scores_of(run)
    assert scores["tasks"] == test.tasks
    assert scores["test"] == pytest.approx(test.scores.final.tolist(), rel=1e-5)
    lines = list(csv.DictReader((kept / "metrics.csv").read_text().splitlines()))
    assert [line["step"] for line in lines if line["val_mse"]] == ["15", "30"]
    assert [line["step"] for line in lines if line["loss"]] == ["10", "20", "30"]
    about = json.loads((kept / "checkpoint.json").read_text())
    assert about["step"] in (15, 30) and re.fullmatch("[0-9a-f]{64}", about["sha256"])
    assert about["tensors"]["p"]["shape"] == [2, 3]


def test_a_kept_config_gives_the_same_bits(pamela, made: Path, here: Path) -> None:
    config = made / "results" / "five" / "pamela-s0" / "config.toml"
    pamela("meta-train", "--config", config, "--run", "again", "--no-figures", "-q").ok()
    assert_same_run(here / "runs" / "again", made / "runs" / "five-pamela-s0")


def test_the_second_time_nothing_is_trained(pamela, mine: Path) -> None:
    before = snapshot(mine)
    result = pamela("reproduce", "five", "ten", "--json").ok()
    assert set(statuses(result.document).values()) == {"done"}
    assert "to train" not in result.err
    assert snapshot(mine) == before


def test_finished_runs_are_collected_without_training(pamela, mine: Path) -> None:
    shutil.rmtree(mine / "results")
    shutil.rmtree(mine / "runs" / "five-maml-s0")
    result = pamela("reproduce", "five", "--collect", "--json").ok()
    assert statuses(result.document) == dict.fromkeys(CELLS[:4], "done") | {"five/maml-s0": "not run"}
    assert not (mine / "runs" / "five-maml-s0").exists()
    assert "maml-s0" in (mine / "results" / "README.md").read_text().partition("## Not run")[2]


def test_results_of_other_settings_are_trained_anew(
    pamela, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "plan_text", lambda: PLAN.replace("iterations = 30", "iterations = 20"))
    listed = pamela("reproduce", "ten", "--list", "--json").ok().document
    assert statuses(listed) == {"ten/maml-s0": "not run"}
    assert statuses(pamela("reproduce", "ten", "--json").ok().document) == {"ten/maml-s0": "done"}
    assert (mine / "runs" / "ten-maml-s0-2").is_dir()
    assert "iterations = 20" in (mine / "results" / "ten" / "maml-s0" / "config.toml").read_text()


# The page --------------------------------------------------------------------------------------------


def test_the_page_has_the_numbers_of_the_runs(made: Path) -> None:
    page = (made / "results" / "README.md").read_text()
    section = page.partition("## Five points")[2].partition("## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows] == ["method", ":--", "MAML", "PAMELA (+Q+P)"]
    runs = made / "runs"
    finals = {
        method: np.mean(
            [scores_of(RunFolder(runs / f"five-{method}-s{s}")).scores.final for s in (0, 1)], axis=0
        )
        for method in ("maml", "pamela")
    }
    mean, ci95 = mean_ci95(finals["pamela"])
    gain, gain_ci95 = mean_ci95(finals["maml"] - finals["pamela"])
    assert rows[3][3].strip() == f"{mean:.4f} ± {ci95:.4f}"
    assert rows[3][4].strip() == f"{np.median(finals['pamela']):.4f}"
    assert rows[3][6].strip(" |") == f"{gain:+.4f} ± {gain_ci95:.4f}".replace("-", "−")
    assert "30 outer steps of 4 tasks, 6 test tasks" in section and "no batch norm" in section
    assert "pamela reproduce five" in section
    assert "pamela meta-train --config results/five/pamela-s0/config.toml" in section


def test_the_page_says_what_was_not_run_and_draws_shots(made: Path) -> None:
    page = (made / "results" / "README.md").read_text()
    assert page.partition("## Not run")[2].strip() == "- tiny: pamela-s0 – `pamela reproduce tiny`"
    (figure,) = re.findall(r"\((figures/.*?\.png)\)", page)
    assert (made / "results" / figure).is_file()
    assert str(made) not in page


def test_results_on_other_tasks_are_not_compared(pamela, mine: Path) -> None:
    """A store made from other files has other test tasks: task by task there is nothing to compare."""
    scores = mine / "results" / "five" / "pamela-s1" / "scores.json"
    document = json.loads(scores.read_text())
    scores.write_text(json.dumps(document | {"tasks": "0" * 64}))
    pamela("reproduce", "five", "--collect", "--runs-dir", "nowhere", "-q").ok()
    section = (mine / "results" / "README.md").read_text().partition("## Five points")[2].partition("## ")[0]
    assert "tested on other tasks than the rest: five/pamela-s1." in section
    (row,) = [line.split(" | ") for line in section.splitlines() if line.startswith("| PAMELA")]
    assert row[2] == "0"


# Checking, listing, usage ----------------------------------------------------------------------------


def test_check_trains_a_little_and_keeps_nothing(pamela, here: Path) -> None:
    document = pamela("reproduce", "ten", "tiny", "--check", "--json").document
    assert statuses(document) == {"ten/maml-s0": "runs", "tiny/pamela-s0": "no data"}
    assert list(here.iterdir()) == []


def test_list(pamela, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    before = snapshot(made)
    result = pamela("reproduce", "--list").ok()
    assert "5 of 6 cells" in result.out
    assert re.search(r"five +│ pamela +│ 0, 1 done +│ MSE \d", result.out)
    assert snapshot(made) == before


def test_no_data_is_an_error_where_it_was_asked_for(pamela, here: Path) -> None:
    result = pamela("reproduce", "tiny", "-q")
    assert result.code == 1
    last = result.err.splitlines()[-1]
    assert last.startswith("error: 1 of 1 cells have no result, among them tiny/pamela-s0: ")
    assert statuses(pamela("reproduce", "--collect", "--json").ok().document)["tiny/pamela-s0"] == "no data"


def test_a_cell_that_fails_is_told(pamela, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "runs").write_text("no folder")
    result = pamela("reproduce", "ten", "-q", "--json")
    assert (result.code, statuses(result.document)) == (1, {"ten/maml-s0": "failed"})
    assert "runs" in result.err.splitlines()[-1]


def test_wrong_usage(pamela, here: Path) -> None:
    pamela("reproduce", "nobody").error(2, "there is no group nobody", "five, ten, tiny")
    pamela("reproduce", "--list", "--check").error(2, "choose one")
    pamela("reproduce", "five", "--jobs", 0).error(2, "--jobs must be at least 1")
    pamela("reproduce", "five", "--device", "gpu").error(2, "--device")


@pytest.mark.parametrize("link", [False, True])
def test_a_page_of_somebody_else_is_kept(pamela, here: Path, link: bool) -> None:
    readme = here / "docs" / "README.md"
    readme.parent.mkdir()
    if link:
        readme.symlink_to(here / "nowhere.md")
    else:
        readme.write_text("# Results\n\nWritten by hand.")
    for flags in ([], ["--collect"]):
        pamela("reproduce", "ten", "--results", "docs", *flags).error(2, "docs/README.md", "something else")
    assert not (here / "runs").exists() and readme.is_symlink() == link


def test_odd_runs_do_not_keep_others_from_being_kept(pamela, mine: Path) -> None:
    """Whatever a stranger has put into them."""
    shutil.rmtree(mine / "results")
    runs = mine / "runs"
    file = runs / "five-pamela-s0" / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0].pop("skipped")
    lines[1]["loss"] = "low"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    save_file({"x": np.zeros(3)}, runs / "five-pamela-s1" / "best.safetensors")
    other = RunFolder(runs / "five-maml-s0")
    write_scores(other.scores, {"val": read_scores(other.scores, other.read_config()[0])["val"]})
    result = pamela("reproduce", "five", "ten", "--collect", "--json", "-q")
    assert statuses(result.document) == {
        "five/pamela-s0": "done", "five/pamela-s1": "failed", "five/maml-s0": "failed",
        "five/maml-s1": "done", "ten/maml-s0": "done",
    }  # fmt: skip
    assert "unexpected" not in result.err


def test_damaged_results_count_as_not_run(pamela, mine: Path) -> None:
    folder = mine / "results" / "ten" / "maml-s0"
    for name in ("summary.json", "scores.json", "config.toml"):
        text = (folder / name).read_text()
        (folder / name).write_text(text[: len(text) // 2])
        listed = pamela("reproduce", "ten", "--list", "--json").ok().document
        assert statuses(listed) == {"ten/maml-s0": "not run"}
        (folder / name).write_text(text)


def test_numbers_of_other_settings_count_as_not_run(pamela, mine: Path) -> None:
    file = mine / "results" / "ten" / "maml-s0" / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"iterations": 2}))
    listed = pamela("reproduce", "ten", "--list", "--json").ok().document
    assert statuses(listed) == {"ten/maml-s0": "not run"}


@pytest.mark.parametrize("last", ["summary.json", "metrics.csv", "checkpoint.json", "config.toml"])
def test_a_result_that_is_kept_again_counts_when_it_is_whole(
    mine: Path, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is the last that is written of it: it is new, or it is none."""
    write, (planned,) = kept.write_atomically, read_plan(["ten"])[0].cells

    def dies(path: Path, text: str) -> None:
        write(path, text)
        if path.name == last:
            raise KeyboardInterrupt

    monkeypatch.setattr(kept, "write_atomically", dies)
    with pytest.raises(KeyboardInterrupt):
        kept.keep(RunFolder(mine / "runs" / "ten-maml-s0"), mine / "results" / "ten" / "maml-s0")
    assert (kept.kept_result(planned, mine / "results") is not None) == (last == "config.toml")


def test_a_run_that_is_damaged_does_not_keep_others_from_being_kept(pamela, mine: Path) -> None:
    shutil.rmtree(mine / "results")
    (mine / "runs" / "five-pamela-s0" / "best.safetensors").unlink()
    result = pamela("reproduce", "five", "--collect", "--json", "-q")
    found = statuses(result.document)
    assert found.pop("five/pamela-s0") == "failed"
    assert set(found.values()) == {"done"}
    assert result.code == 1 and "best.safetensors" in result.err.splitlines()[-1]


def test_a_run_that_diverges_is_a_finding(pamela, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept that it did, the page says so, and it is not trained again."""
    first, five = PLAN.split("[[group]]")[:2]
    text = f"{first}[[group]]{five}".replace("[0, 1]", "[0]").replace("iterations = 30", ABSURD)
    monkeypatch.setattr(plan, "plan_text", lambda: text)
    first = pamela("reproduce", "--json", "-q").ok().document
    assert set(statuses(first).values()) == {"diverged"}
    assert all("meta-gradients before step" in cell["why"] for cell in first["cells"])
    page = (here / "results" / "README.md").read_text()
    assert "## Five points" in page and "- MAML, seed 0: " in page and "Not run" not in page
    kept_of = {file.name for file in (here / "results" / "five" / "maml-s0").iterdir()}
    assert kept_of == KEPT - {"summary.json", "scores.json", "checkpoint.json"} | {"diverged.json"}
    shutil.rmtree(here / "runs")
    assert pamela("reproduce", "--json", "-q").ok().document == first
    assert not (here / "runs").exists()
    assert "0 diverged" in pamela("reproduce", "--list").ok().out
