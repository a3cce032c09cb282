"""`pamela report`: the page of one run and of several, its figures, and the commands that give runs again."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import tomllib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from cli_page import Page
from cli_support import snapshot
from PIL import Image

RUNS = ["sine-a", "sine-b", "tiny-a", "tiny-b"]
FIGURES = {"training", "loss-by-update", "trends"}
Report = Callable[..., Page]


def percent(value: float) -> str:
    return f"{100 * value:.2f} %"


# One run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_document_and_place(pamela, undrawn: None, own_world: Path, name: str) -> None:
    document = pamela("report", name, "--json").ok().document
    summary = json.loads((own_world / "runs" / name / "summary.json").read_text())
    assert document == {"report": f"runs/{name}/report.html", "runs": [summary]}
    assert (own_world / document["report"]).exists()


def test_path_alone_is_on_stdout(pamela, undrawn: None, own_world: Path) -> None:
    name = "a-name-that-is-so-long-that-a-terminal-would-break-the-line-of-its-path-somewhere-in-the-middle"
    (own_world / "runs" / "sine-a").rename(own_world / "runs" / name)
    assert pamela("report", name).ok().out == f"runs/{name}/report.html\n"


def test_result_of_images(report: Report, own_world: Path) -> None:
    page = report("tiny-a")
    summary = json.loads((own_world / "tiny-a.json").read_text())
    for split in ("val", "test"):
        record = summary[split]
        score = f"{percent(record['accuracy'])} ± {100 * record['ci95']:.2f}"
        assert page.value("The checkpoint", split) == score
        assert page.value("The checkpoint", split, 2) == str(record["tasks"])
        assert page.value("The checkpoint", split, 3) == percent(record["accuracy_per_step"][0])
    assert f"{score} on 4 test tasks" in page.text
    assert "queries normalised among themselves (transductive)" in page.text
    assert page.value("Training", "outer steps") == "6"
    assert page.value("Training", "skipped (gradient not finite)") == "0"
    assert page.value("Training", "training time") == f"{summary['seconds']:,.0f} s"
    assert page.value("Training", "speed") == f"{summary['tasks_per_second']:,.1f} tasks/s"
    curve = [percent(value) for value in summary["test"]["accuracy_per_step"]]
    assert [row[2] for row in page.table("Mean accuracy")[1:]] == curve
    # Conv4 of width 4 for 16 × 16 × 1 and 5 classes; 2 updates, a connection in each of 5 layers.
    assert [row[1] for row in page.table("Meta-parameters")[1:]] == ["541", "82", "5", "628"]


def test_result_of_sine_waves(report: Report, own_world: Path) -> None:
    page = report("sine-b")
    test = json.loads((own_world / "sine-b.json").read_text())["test"]
    assert page.value("The checkpoint", "test") == f"MSE {test['mse']:.4f} ± {test['ci95']:.4f}"
    assert "no batch norm" in page.text
    assert "No learned trends: the method learns θ alone." in page.text


@pytest.mark.parametrize("name", RUNS)
def test_settings_are_complete(report: Report, own_world: Path, name: str) -> None:
    shown = {row[0]: row[1] for row in report(name).table("All settings")[1:]}
    config = tomllib.loads((own_world / "runs" / name / "config.toml").read_text())
    expected = {k: v for section in ("task", "inner", "outer", "run") for k, v in config[section].items()}
    assert shown.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, bool):
            assert shown[key] == str(value).lower()
        else:
            assert type(value)(shown[key]) == value


# Figures ---------------------------------------------------------------------------------------------


def test_figures_beyond_what_a_page_shows(report: Report, own_world: Path) -> None:
    figures = own_world / "runs/sine-a/figures"
    source = BytesIO()
    Image.new("RGB", (900, 9)).save(source, "PNG")
    figures.mkdir(exist_ok=True)
    for i in range(26):
        (figures / f"mine-{i:02}.png").write_bytes(source.getvalue())
    assert "The first 24 of 26 figures in figures/." in report("sine-a").text


@pytest.mark.parametrize("name", ["tiny-a", "sine-b"])
def test_figures_are_rebuilt_without_data(pamela, own_world: Path, name: str) -> None:
    run = own_world / "runs" / name
    by_training = {path.name: path.read_bytes() for path in (run / "figures").glob("*.csv")}
    shutil.rmtree(own_world / "data")
    shutil.rmtree(run / "figures")
    before = snapshot(run)
    page = Page(Path(pamela("report", name, "--json").ok().document["report"]))
    drawn = FIGURES if name != "sine-b" else FIGURES - {"trends"}
    assert len(page.images) == len(drawn)
    for image in page.images:
        with Image.open(BytesIO(image)) as opened:
            opened.load()
            assert opened.width > 800
    files = {f"figures/{stem}{suffix}" for stem in drawn for suffix in (".png", ".pdf", ".csv")}
    after = snapshot(run)
    assert after.keys() - before.keys() == files | {"figures", "report.html"}
    assert {key: after[key] for key in before} == before
    assert {stem + ".csv" for stem in drawn - {"loss-by-update"}} == by_training.keys()
    assert {key: (run / "figures" / key).read_bytes() for key in by_training} == by_training


def test_loss_by_update_has_the_stored_scores(report: Report, own_world: Path) -> None:
    report("tiny-a")
    with (own_world / "runs/tiny-a/figures/loss-by-update.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["run"] == "test"]
    summary = json.loads((own_world / "tiny-a.json").read_text())
    assert [float(row["mean loss"]) for row in rows] == pytest.approx(summary["test"]["loss_per_step"])


def test_other_figures_in_the_folder_are_shown(pamela, report: Report, own_world: Path) -> None:
    pamela("evaluate", "sine-a", "--tasks", 4, "-q").ok()
    page = report("sine-a")
    assert len(page.images) == 5  # those of the waves, and of the losses that were evaluated
    assert "the curve fitted after each inner update" in page.text


def test_run_without_scores_of_tasks(report: Report, own_world: Path) -> None:
    (own_world / "runs/sine-a/scores.safetensors").unlink()
    page = report("sine-a")
    assert "the run has no score of each task" in page.text
    assert len(page.images) == 2


@pytest.mark.skipif(not hasattr(shutil.os, "geteuid"), reason="access rights of POSIX")
def test_run_that_may_not_be_written_to(warm, own_world: Path) -> None:
    run = own_world / "runs" / "sine-b"
    shutil.rmtree(run / "figures")
    run.chmod(0o555)
    try:
        message = warm(own_world, "report", "sine-b", powerless=True).error(1, "report.html", "--out")
        assert "access rights" in message
        warm(own_world, "report", "sine-b", "--out", "mine.html", powerless=True).ok()
    finally:
        run.chmod(0o755)
    assert len(Page(own_world / "mine.html").images) == 2
    assert not (run / "figures").exists()


def test_the_test_is_given_again(pamela, report: Report, own_world: Path) -> None:
    (command,) = (shlex.split(line) for line in report("tiny-a").commands if " evaluate " in line)
    again = pamela(*command[1:], "--no-figures", "--json").ok().document
    assert again["accuracy"] == json.loads((own_world / "tiny-a.json").read_text())["test"]["accuracy"]


# Commands that give it again -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sine-a", "sine-b", "tiny-a", "tiny-b"])
def test_commands_give_the_run_again(pamela, report: Report, own_world: Path, name: str) -> None:
    commands = [shlex.split(line) for line in report(name).commands if " meta-train " in line]
    assert len(commands) == 2
    run = own_world / "runs" / name
    for i, (program, *arguments) in enumerate(commands):
        assert program == "pamela"
        pamela(*arguments, "--run", f"again{i}", "-q").ok()
        again = own_world / "runs" / f"again{i}"
        assert (again / "config.toml").read_bytes() == (run / "config.toml").read_bytes()
        assert (again / "best.safetensors").read_bytes() == (run / "best.safetensors").read_bytes()


def test_flags_are_only_what_the_recipe_has_otherwise(pamela, report: Report) -> None:
    quick = ["--iterations", 4, "--val-every", 2, "--val-tasks", 2, "--test-tasks", 2, "-q"]
    pamela("meta-train", "--dataset", "sine", *quick, "--run", "x", "--method", "meta-sgd", "--seed", 3).ok()
    flags = (
        "--dataset sine --method meta-sgd --iterations 4 --val-every 2 --val-tasks 2 --test-tasks 2 --seed 3"
    )
    assert f"pamela meta-train {flags}" in report("x").commands


def test_settings_are_all_told_where_the_recipe_is_unknown(report: Report, own_world: Path) -> None:
    """The store is not there, and its name is that of no recipe: it may have had another one's."""
    shutil.rmtree(own_world / "data")
    command = next(line for line in report("tiny-a").commands if "--dataset" in line)
    for words in ("--shot 1", "--clip 10", "--no-rotations", "--precision float32", "--phi-lr 0.0001"):
        assert words in command


def test_prepare_command_and_checksum(report: Report, own_world: Path) -> None:
    config = tomllib.loads((own_world / "runs/tiny-a/config.toml").read_text())
    page = report("tiny-a")
    assert "pamela prepare folder SOURCE --name tiny --image-size 16 --grayscale" in page.commands
    assert f"The store, tiny.h5, has the checksum {config['task']['store_sha256']}." in page.text
    assert "If --class-split or --split-seed divided its classes" in page.text
    assert not [line for line in report("sine-a").commands if "prepare" in line]
    file = own_world / "runs/tiny-a/config.toml"
    file.write_text(file.read_text().replace('fit = "crop"', 'fit = "pad"'))
    assert any("--image-size 16 --fit pad --grayscale" in line for line in report("tiny-a").commands)
    file.write_text(file.read_text().replace('dataset = "tiny"', 'dataset = "own-images"'))
    assert any("prepare folder SOURCE --name own-images" in line for line in report("tiny-a").commands)


def test_no_path_from_the_root_is_told(pamela, undrawn: None, own_world: Path) -> None:
    run = own_world / "runs" / "sine-a"
    pamela("report", run).ok()
    assert str(own_world) not in (run / "report.html").read_text()
    outside = own_world.parent / "elsewhere" / "mine"
    shutil.copytree(run, outside)
    pamela("report", outside).ok()
    page = Page(outside / "report.html")
    assert str(own_world.parent) not in page.source
    assert "pamela evaluate elsewhere/mine --tasks 4" in page.commands


# Where it goes ---------------------------------------------------------------------------------------


def test_out(pamela, undrawn: None, own_world: Path) -> None:
    assert pamela("report", "sine-a", "--out", "pages/one.html").ok().out == "pages/one.html\n"
    assert not (own_world / "runs/sine-a/report.html").exists()
    pamela("report", "sine-a", "sine-b", "--out", "pages/two.html").ok()
    assert (own_world / "pages/two-figures/convergence.png").exists()
    assert not (own_world / "runs/report.html").exists()


def test_report_is_the_same_again(pamela, own_world: Path) -> None:
    pages = []
    for _ in range(2):
        pamela("report", "sine-b").ok()
        pages.append((own_world / "runs/sine-b/report.html").read_text())
    assert pages[0] == pages[1]


def test_wrong_usage(pamela, undrawn: None, own_world: Path) -> None:
    Path("mine.html").write_text("<html>my own page")
    before = snapshot(own_world)
    pamela("report", "sine-a", "--out", "mine.html").error(2, "--out mine.html", "holds something else")
    pamela("report").error(2, "RUN")
    pamela("report", "none").error(2, "there is no run runs/none", "sine-a")
    pamela("report", "sine-a", "--out", "config.toml").error(2, "--out config.toml", ".html")
    pamela("report", "data").error(2, "data is not a run", "config.toml")
    assert snapshot(own_world) == before
