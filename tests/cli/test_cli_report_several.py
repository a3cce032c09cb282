"""`pamela report` of unfinished runs, and of several: their table, curves, and paired differences."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_page import Page
from cli_support import SINE, Job, lines_in

from pamela_cli.engine.checkpoint import Checkpoint
from pamela_cli.problem import network, update_rule
from pamela_cli.report.rerun import without_places
from pamela_cli.runs import RunFolder

Report = Callable[..., Page]


# Unfinished runs -------------------------------------------------------------------------------------


def test_run_that_was_stopped(warm, pamela, undrawn: None, here: Path) -> None:
    job: Job = warm.start(
        here, "meta-train", *SINE, "--iterations", "100000", "--val-every", "10", "--run", "x"
    )
    job.when(lambda: lines_in(here / "runs/x/metrics.jsonl") > 6).send(2)
    assert job.wait().code == 130
    result = pamela("report", "x", "--json").ok()
    assert result.document == {"report": "runs/x/report.html", "runs": [None]}
    page = Page(here / "runs/x/report.html")
    page.assert_alone()
    assert "This run is not finished: its last checkpoint is at outer step" in page.text
    assert "of 100,000" in page.text
    assert "pamela meta-train --run runs/x --resume" in page.commands
    assert len(page.table("The last validations")) > 1
    assert len(page.images) == 2  # training and trends


def test_run_that_has_not_begun(report: Report, own_world: Path) -> None:
    (own_world / "runs/new").mkdir()
    shutil.copy(own_world / "runs/tiny-a/config.toml", own_world / "runs/new/config.toml")
    page = report("new")
    assert "its last checkpoint is at outer step 0 of 6" in page.text
    assert "It has not been validated yet." in page.text
    assert "There is no record of what this run was computed on." in page.text
    assert page.images == []


# Several runs ----------------------------------------------------------------------------------------


def test_comparison(pamela, undrawn: None, own_world: Path) -> None:
    result = pamela("report", "sine-a", "sine-b", "tiny-a", "--json").ok()
    assert result.document["report"] == "runs/report.html"
    assert [run["run"] for run in result.document["runs"]] == ["sine-a", "sine-b", "tiny-a"]
    page = Page(own_world / "runs/report.html")
    page.assert_alone()
    assert page.headings[:2] == ["3 runs", "Comparison"]
    assert [row[0] for row in page.table("Results with")[1:]] == ["sine-a", "sine-b", "tiny-a"]
    for name in ("sine-a", "tiny-a"):
        assert name in page.headings
    figures = {path.name for path in (own_world / "runs/report-figures").iterdir()}
    stems = ("convergence-mse", "convergence-accuracy")
    assert figures == {f"{stem}{suffix}" for stem in stems for suffix in (".png", ".pdf", ".csv")}
    assert "Runs that were tested on different tasks are not compared in pairs." in page.text


def test_pairs_are_those_of_evaluate(pamela, report: Report, own_world: Path) -> None:
    pair = (
        pamela("evaluate", "sine-a", "sine-b", "--tasks", 4, "--no-figures", "--json")
        .ok()
        .document["pairs"][0]
    )
    row = report("sine-a", "sine-b").table("Paired differences")[1]
    text = f"{pair['difference']:+.4f} ± {pair['ci95']:.4f}".replace("-", "−")
    assert row[:4] == ["sine-a", "sine-b", text, "4"]
    assert row[4] == ("yes" if abs(pair["difference"]) > pair["ci95"] else "no")


def test_pairs_of_images_are_in_points(pamela, report: Report, own_world: Path) -> None:
    pair = (
        pamela("evaluate", "tiny-a", "tiny-b", "--tasks", 4, "--no-figures", "--json")
        .ok()
        .document["pairs"][0]
    )
    text = f"{100 * pair['difference']:+.2f} ± {100 * pair['ci95']:.2f} points".replace("-", "−")
    assert report("tiny-a", "tiny-b").table("Paired differences")[1][2] == text


def test_convergence_has_the_metrics(report: Report, own_world: Path) -> None:
    report("sine-a", "sine-b")
    with (own_world / "runs/report-figures/convergence.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (own_world / "runs/sine-b/metrics.jsonl").read_text().splitlines()]
    for kind, key in (("train", "mse"), ("validation", "val_mse")):
        mine = [
            (int(r["outer step"]), float(r["mse"]))
            for r in rows
            if r["tasks"] == kind and r["variant"] == "sine-b"
        ]
        assert mine == [(line["step"], line[key]) for line in lines if key in line]


def test_unfinished_run_among_others(report: Report, own_world: Path) -> None:
    (own_world / "runs/new").mkdir()
    shutil.copy(own_world / "runs/sine-a/config.toml", own_world / "runs/new/config.toml")
    page = report("sine-a", "new")
    assert page.table("Results with")[2][-2:] == ["Not finished", "0 of 40"]
    assert "No paired differences, because the score of each test task is missing: new." in page.text


def test_what_is_no_run_among_several_is_left_out(pamela, undrawn: None, own_world: Path) -> None:
    """As the shell finds for runs/*: the page itself, and its figures."""
    for _ in range(2):
        found = sorted(map(str, Path("runs").iterdir()))
        result = pamela("report", *found, "--json").ok()
        assert len(result.document["runs"]) == 4
    assert "left out, because it holds no run: runs/report-figures, runs/report.html" in result.err
    pamela("report", "runs/report-figures").error(2, "runs/report-figures is not a run")
    pamela("report", "runs/none", "runs/sine-a").error(2, "there is no run runs/none")


def test_runs_of_one_name(report: Report, own_world: Path) -> None:
    shutil.copytree(own_world / "runs/sine-a", own_world / "other/sine-a")
    page = report("sine-a", "other/sine-a")
    assert [row[0] for row in page.table("Results with")[1:]] == ["runs/sine-a", "other/sine-a"]


def test_what_cannot_be_read_or_drawn_costs_no_other(pamela, undrawn: None, own_world: Path) -> None:
    config = Path("runs/tiny-b/config.toml")
    config.write_text(config.read_text().replace("image_size = 16", "image_size = 300"))
    Path("runs/sine-b/config.toml").write_text("[task]\n")
    result = pamela("report", "sine-a", "sine-b", "tiny-b", "--json").ok()
    assert "left out: " in result.err and "sine-b" in result.err
    assert len(result.document["runs"]) == 2
    assert "The figure “trends” could not be drawn: " in Path(result.document["report"]).read_text()
    pamela("report", "sine-b").error(1, "sine-b")


def test_what_is_no_run_is_wrong_usage(pamela, own_world: Path) -> None:
    ablation = own_world / "runs" / "ablation-sine-10s"
    ablation.mkdir()
    (ablation / "ablation.json").write_text("{}")
    for command in (["evaluate"], ["predict"], ["meta-train", "--resume", "--run"]):
        rest = ["data", "data"] if command == ["predict"] else []
        pamela(*command, "ablation-sine-10s", *rest).error(2, "is an ablation", "one of its runs")
    pamela("report", ".").error(2, ". is not a run: it has no config.toml")


def test_an_ablation_that_cannot_be_read_costs_no_other(pamela, undrawn: None, own_world: Path) -> None:
    ablation = own_world / "runs/ablation-sine-10s"
    ablation.mkdir()
    (ablation / "ablation.json").write_text("{")
    result = pamela("report", "sine-a", "ablation-sine-10s", "--json").ok()
    assert "left out: " in result.err and "ablation-sine-10s" in result.err
    assert len(result.document["runs"]) == 1
    pamela("report", "ablation-sine-10s").error(1, "ablation-sine-10s")


def test_a_run_that_diverged_among_others(report: Report, own_world: Path) -> None:
    run = own_world / "runs/sine-b"
    for name in ("summary.json", "scores.safetensors"):
        (run / name).unlink()
    config, _ = RunFolder(run).read_config()
    rule = update_rule(config, network(config))
    last = Checkpoint.read(run / "last.safetensors", rule)
    progress = last.progress | {"recent_skips": [10] * 10}
    Checkpoint(last.tensors, progress).write(run / "last.safetensors")
    assert report("sine-a", "sine-b").table("Results with")[2][-2] == "Diverged"


def test_a_page_names_no_place(pamela, report: Report, own_world: Path, tmp_path: Path) -> None:
    place = tmp_path / "some place"
    shutil.copytree(own_world / "runs/sine-a", place / "runs/sine-a")
    (place / "runs/sine-a/best.safetensors").write_bytes(b"no")
    text = report(str(place / "runs/sine-a")).text
    assert "could not be drawn: runs/sine-a/best.safetensors is" in text
    assert "some place" not in text and str(tmp_path) not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/runs/a/best.safetensors is damaged.", "a/best.safetensors is damaged."),
        ("not '/data/x.h5': 3 / 4 of runs/b", "not 'data/x.h5': 3 / 4 of runs/b"),
        ("1/2 and https://a.org/b/c", "1/2 and https://a.org/b/c"),
    ],
)
def test_paths_in_sentences(text: str, shown: str) -> None:
    assert without_places(text) == shown


def test_a_page_of_somebody_else_is_kept(pamela, undrawn: None, own_world: Path) -> None:
    (own_world / "runs/report.html").write_text("mine")
    pamela("report", "sine-a", "sine-b").error(2, "runs/report.html already exists and holds something else")
    assert (own_world / "runs/report.html").read_text() == "mine"
