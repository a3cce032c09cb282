"""What `pamela evaluate` has found is kept in the run's folder, and shown by `pamela report`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_page import MARKUP

from pamela_cli import evaluating, evaluations, load_run
from pamela_cli.engine.checkpoint import Checkpoint

OPTIONS = ["--tasks", "6", "--no-figures", "-q"]
CAPTION, PAIRED = "By pamela evaluate", "And paired with other runs"


def lines_of(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("runs", run, "evaluations.jsonl").read_text().splitlines()]


def test_each_evaluation_is_a_line(pamela, own_world: Path) -> None:
    documents = [
        pamela("evaluate", "tiny-a", *OPTIONS, *more, "--json").ok().document
        for more in ([], ["--norm-stats", "support"], ["--seed", "3"])
    ]
    lines = lines_of("tiny-a")
    about = ("evaluated", "checkpoint", "environment", "compared")
    assert [{k: v for k, v in line.items() if k not in about} for line in lines] == documents
    for line in lines:
        assert line["environment"].keys() >= {"pamela", "code", "torch", "cpu", "cores", "gpu"}
        assert line["environment"]["torch"] == torch.__version__
    assert all(line["evaluated"].endswith("+00:00") and line["compared"] == [] for line in lines)
    best = hashlib.sha256(Path("runs/tiny-a/best.safetensors").read_bytes()).hexdigest()
    assert {line["checkpoint"] for line in lines} == {best}


def test_the_page_has_the_last_of_each_kind(pamela, report, own_world: Path) -> None:
    for more in ([], ["--norm-stats", "support"], [], ["--steps", "0"]):
        pamela("evaluate", "tiny-a", *OPTIONS, *more).ok()
    _, *rows = report("tiny-a").table(CAPTION)
    queries = str(lines_of("tiny-a")[0]["query"])
    assert [row[:6] for row in rows] == [
        ["tiny test", "5-way 1-shot", "2", queries, "support", ""],
        ["tiny test", "5-way 1-shot", "2", queries, "query", ""],
        ["tiny test", "5-way 1-shot", "0", queries, "query", ""],
    ]
    last = lines_of("tiny-a")[2]
    assert rows[1][6] == "6" and rows[1][7].startswith(f"{100 * last['accuracy']:.2f} %")
    assert rows[1][8] == last["evaluated"][:10]


def test_what_earlier_versions_found_gives_way_to_the_same_found_again(pamela, report, own_world) -> None:
    """They did not say that there was no test-time augmentation; nobody else may say something odd."""
    pamela("evaluate", "tiny-a", *OPTIONS).ok()
    (line,) = lines_of("tiny-a")
    assert not any(line.pop(name) for name in ("tta", "mirror_support", "resized"))
    assert line.pop("checkpoint") and line.pop("environment")
    odd = line | {"tta": "no", "seed": 5}
    Path("runs/tiny-a/evaluations.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(odd)}\n")
    pamela("evaluate", "tiny-a", *OPTIONS).ok()
    assert len(lines_of("tiny-a")) == 3
    _, *rows = report("tiny-a").table(CAPTION)
    assert len(rows) == 1


def test_runs_that_were_compared_know_of_each_other(pamela, report, own_world: Path) -> None:
    document = pamela("evaluate", "sine-a", "sine-b", *OPTIONS, "--json").ok().document
    (pair,) = document["pairs"]
    for run, other, sign in (("sine-a", "sine-b", 1), ("sine-b", "sine-a", -1)):
        (line,) = lines_of(run)
        assert line["compared"] == [
            {"with": other, "difference": sign * pair["difference"], "ci95": pair["ci95"]}
        ]
        _, row = report(run).table(PAIRED)
        assert row[:7] == [other, "sine test", "10-shot", "5", str(line["query"]), "", ""]
        assert row[7].startswith("+" if sign * pair["difference"] > 0 else "−")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_nothing_but_a_plain_file_is_written_to(pamela, own_world: Path, kind: str) -> None:
    file, target = own_world / "runs/tiny-a/evaluations.jsonl", own_world / "target"
    target.write_text("mine\n")
    if kind == "link":
        file.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    result = pamela("evaluate", "tiny-a", *OPTIONS).ok()
    assert "not recorded: runs/tiny-a/evaluations.jsonl is no plain file" in result.err
    assert target.read_text() == "mine\n"


def test_lines_that_are_no_results_are_passed_over(pamela, report, own_world: Path) -> None:
    pamela("evaluate", "tiny-a", *OPTIONS).ok()
    file = own_world / "runs/tiny-a/evaluations.jsonl"
    (good,) = file.read_text().splitlines()
    odd = [
        good[:40], "", "null", "[]", "{}", "[" * 10**5, '{"accuracy": 1e999}',
        json.dumps(json.loads(good) | {"dataset": 7}),
        json.dumps(json.loads(good) | {"tasks": "6"}),
        json.dumps(json.loads(good) | {"seed": MARKUP, "compared": [7, {"with": MARKUP, "difference": "x"}]}),
    ]  # fmt: skip
    file.write_text("\n".join([*odd, good]) + "\n")
    page = report("tiny-a")
    assert [row[0] for row in page.table(CAPTION)[1:]] == [f"tiny test, seed {MARKUP[:59]}…", "tiny test"]
    assert not any(PAIRED in caption for caption in page.captions)


def test_a_line_without_an_end_costs_no_other(pamela, report, own_world: Path) -> None:
    """As a full disk or a power cut leaves it."""
    file = own_world / "runs/tiny-a/evaluations.jsonl"
    pamela("evaluate", "tiny-a", *OPTIONS).ok()
    file.write_bytes(file.read_bytes()[:100])
    pamela("evaluate", "tiny-a", *OPTIONS).ok()
    assert len(file.read_text().splitlines()) == 2
    assert len(report("tiny-a").table(CAPTION)) == 2


def test_the_last_count_of_more_lines_than_are_read(
    pamela, report, own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluations, "_MOST", 1)
    for more in ([], ["--steps", "0"]):
        pamela("evaluate", "tiny-a", *OPTIONS, *more).ok()
    assert [row[2] for row in report("tiny-a").table(CAPTION)[1:]] == ["0"]


def test_the_page_has_results_of_the_best_checkpoint_alone(pamela, report, own_world: Path) -> None:
    file = own_world / "runs/tiny-a/evaluations.jsonl"
    pamela("evaluate", "tiny-a", *OPTIONS).ok()
    (line,) = lines_of("tiny-a")
    file.write_text(json.dumps(line | {"checkpoint": "an earlier one", "steps": 7}) + "\n")
    pamela("evaluate", "tiny-a", *OPTIONS).ok()
    page = report("tiny-a")
    assert [row[2] for row in page.table(CAPTION)[1:]] == ["2"]
    assert "Left out: 1 result of an earlier checkpoint of this run." in page.text


def test_a_folder_that_cannot_be_written_costs_no_other(pamela, own_world: Path) -> None:
    (own_world / "runs/sine-a/evaluations.jsonl").mkdir()
    said = pamela("evaluate", "sine-a", "sine-b", *OPTIONS).ok().err
    assert "not recorded: runs/sine-a/evaluations.jsonl is no plain file" in said
    assert len(lines_of("sine-b")) == 1


def test_a_checkpoint_that_is_replaced_meanwhile(
    pamela, own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is being trained: the scores and the checksum are of one checkpoint, the newer."""
    best, newer = own_world / "runs/sine-a/best.safetensors", own_world / "newer"
    learner = load_run("runs/sine-a", "cpu").learner
    with torch.no_grad():
        learner.theta.mul_(0.5)
    Checkpoint.of(learner, {}).write(newer)
    load, loaded = evaluating.load_learner, []

    def loading(*arguments: Any) -> Any:
        loaded.append(load(*arguments))
        if len(loaded) == 1:
            newer.replace(best)
        return loaded[-1]

    monkeypatch.setattr(evaluating, "load_learner", loading)
    for _ in range(2):
        pamela("evaluate", "sine-a", *OPTIONS).ok()
    meanwhile, afterwards = lines_of("sine-a")
    assert meanwhile | {"evaluated": None} == afterwards | {"evaluated": None}
    assert meanwhile["checkpoint"] == hashlib.sha256(best.read_bytes()).hexdigest()


def test_a_run_beside_itself_is_no_comparison(pamela, own_world: Path) -> None:
    pamela("evaluate", "sine-a", "sine-a", *OPTIONS).ok()
    assert [line["compared"] for line in lines_of("sine-a")] == [[], []]


def test_memory_that_runs_out_is_said(pamela, own_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def judging(learner, objective, tasks, runner, *rest, **options):
        runner.lowered.append(runner.plan.smaller(training=False))
        return judge(learner, objective, tasks, runner, *rest, **options)

    judge = evaluating.judge
    monkeypatch.setattr(evaluating, "judge", judging)
    said = pamela("evaluate", "sine-a", *OPTIONS).ok().err
    assert "memory ran out while sine-a was evaluated: it went on with" in said


def test_figures_of_datasets_with_a_dot_in_their_names(pamela, own_world: Path) -> None:
    shutil.copy("data/tiny.h5", "data/photos.v2.h5")
    for more in ([], ["--tta"]):
        pamela("evaluate", "tiny-a", "--dataset", "photos.v2", "--tasks", "6", *more).ok()
    drawn = {path.name for path in Path("runs/tiny-a/figures").glob("*photos*.csv")}
    stem = "loss-by-update-test-photos.v2"
    assert drawn == {f"{stem}-6tasks.csv", f"{stem}-tta-6tasks.csv"}


def test_a_folder_whose_name_is_no_text_costs_no_result(
    pamela, own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, other = own_world / os.fsdecode(b"here\xff"), own_world / "other"
    for place in (home, other):
        shutil.copytree(own_world / "runs" / "sine-a", place / "same")
    monkeypatch.chdir(home)
    pamela("evaluate", "./same", "../other/same", *OPTIONS).ok()
    (line,) = (home / "same" / "evaluations.jsonl").read_text().splitlines()
    assert len(json.loads(line)["compared"]) == 1
