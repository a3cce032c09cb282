"""`pamela ablate`: cells are trained, found, stopped, gone on with, and compared."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cli_page import Page
from cli_support import SINE, TINY, lines_in, snapshot, write_tiny_store

GRID = ["ablate", *SINE, "--vary", "skip-interval", "--steps", "3", "--iterations", "30", "--val-every", "15"]
"""MAML, +Q, +Q+P¹ and +Q+P², each trained in a moment."""
LABELS = ["MAML", "+Q", "+Q+P¹", "+Q+P²"]


@pytest.fixture(scope="session")
def ablated(made_once, warm) -> Path:
    """A folder with a finished ablation, and what it printed, in ``out.json``; not to be changed."""

    def make(folder: Path) -> None:
        printed = warm(folder, *GRID, "--json").ok().out
        assert warm(folder, *GRID, "--figures", "--json").ok().out == printed  # drawn, not trained again
        (folder / "out.json").write_text(printed)

    return made_once("ablated", make)


@pytest.fixture
def mine(ablated: Path, here: Path) -> Path:
    shutil.copytree(ablated, here, dirs_exist_ok=True)
    return here


def table_of(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The numbers of a document, without the names of the runs."""
    return [
        (row["label"], row["mse"], row["ci95"], row["gain"], row["gain_ci95"]) for row in document["rows"]
    ]


def test_the_document(ablated: Path) -> None:
    document = json.loads((ablated / "out.json").read_text())
    shared = {"dataset": "sine", "way": None, "shot": 10, "tasks": 4, "seeds": [0], "iterations": 30}
    assert {key: document[key] for key in shared} == shared and document["norm_stats"] is None
    assert [row["label"] for row in document["rows"]] == LABELS
    keys = {"variant", "skip_interval", "steps", "status", "mse", "ci95", "seed_spread", "gain", "gain_ci95"}
    for row in document["rows"]:
        assert keys <= row.keys()
        assert (row["status"], row["steps"], len(row["runs"])) == ("done", 3, 1)
    assert [row["variant"] for row in document["rows"]] == ["maml", "q", "pamela", "pamela"]
    assert [row["skip_interval"] for row in document["rows"]] == [None, None, 1, 2]
    folder = ablated / "runs" / "ablation-sine-10s-skip-interval"
    assert json.loads((folder / "ablation.json").read_text()) == document
    names = {path.name for path in folder.rglob("*.*")}
    assert {
        "table.md",
        "table.tex",
        "table.csv",
        "dissection.png",
        "dissection.pdf",
        "dissection.csv",
    } <= names
    assert {"convergence.png", "loss-by-update.png", "fits-of-methods.png", "fits-by-update.png"} <= names


def test_gains_are_those_that_evaluate_finds(pamela, mine: Path) -> None:
    document = json.loads((mine / "out.json").read_text())
    maml, *others = document["rows"]
    for row in others:
        runs = (row["runs"][0], maml["runs"][0])
        result = pamela("evaluate", *runs, "--tasks", "4", "--json", "--no-figures", "-q").ok().document
        assert row["mse"] == pytest.approx(result["runs"][0]["mse"], rel=1e-6)
        assert row["gain"] == pytest.approx(result["pairs"][0]["difference"], rel=1e-5, abs=1e-9)
        assert row["gain_ci95"] == pytest.approx(result["pairs"][0]["ci95"], rel=1e-5, abs=1e-9)


def test_what_is_there_is_not_trained_again(pamela, mine: Path) -> None:
    runs = {path: snapshot(path) for path in (mine / "runs").glob("*-s0*")}
    assert len(runs) == 4
    result = pamela(*GRID, "--json", "-q").ok()
    assert table_of(result.document) == table_of(json.loads((mine / "out.json").read_text()))
    assert {path: snapshot(path) for path in (mine / "runs").glob("*-s0*")} == runs


def test_nothing_is_trained_with_iterations_0(pamela, undrawn: None, mine: Path) -> None:
    shutil.rmtree(mine / "runs" / "ablation-sine-10s-skip-interval")
    show = ["ablate", *SINE, "--table", "--iterations", "0"]
    document = pamela(*show, "--figures", "--json", "-q").ok().document
    assert table_of(document) == table_of(json.loads((mine / "out.json").read_text()))
    assert (mine / "runs" / "ablation-sine-10s" / "figures" / "dissection.png").exists()
    as_json = pamela(*show, "--format", "json", "-q").ok()
    assert as_json.document == document
    markdown = pamela(*show, "--format", "markdown", "-q").ok().out
    assert markdown == (mine / "runs" / "ablation-sine-10s" / "table.md").read_text()
    assert "| +Q+P² | 3 |" in markdown
    assert r"+Q+P$^2$ & 3 &" in pamela(*show, "--format", "latex", "-q").ok().out
    assert pamela(*show, "--format", "csv", "-q").ok().out.splitlines()[0].startswith("variant,label,")
    terminal = pamela(*show, "-q").ok().out
    assert all(label in terminal for label in LABELS) and "4 test tasks" in terminal


def test_the_table_has_cells_of_other_axes_too(pamela, mine: Path) -> None:
    more = ["ablate", *SINE, "--vary", "steps", "--steps", "1", "--iterations", "30", "--val-every", "15"]
    alone = pamela(*more, "--json", "-q").ok().document
    assert [(row["label"], row["steps"], row["status"]) for row in alone["rows"]] == [
        ("MAML", 1, "done"), ("+Q", 1, "done"), ("+Q+P²", 1, "equal")
    ]  # fmt: skip
    both = pamela(*more, "--table", "--json", "-q").ok().document
    assert [(row["label"], row["steps"]) for row in both["rows"][3:]] == [(label, 3) for label in LABELS]


def test_a_file_of_settings(pamela, here: Path) -> None:
    """Its number of updates, its interval and its seed count where no flag wins over them; not its method."""
    (here / "mine.toml").write_text(
        "[inner]\nmethod = 'pamela'\nsteps = 3\nskip_interval = 1\n[run]\nseed = 7\n"
    )
    vary = ["ablate", *SINE, "--vary", "steps", "--iterations", "2", "--config", "mine.toml", "--json", "-q"]
    document = pamela(*vary).ok().document
    assert (document["seeds"], document["vary"]) == ([7], "steps")
    rows = [(row["label"], row["steps"]) for row in document["rows"]]
    assert rows == [(label, n) for n in (1, 2, 3) for label in ("MAML", "+Q", "+Q+P¹")]
    assert pamela(*vary, "--seeds", 5, "--steps", 1).ok().document["seeds"] == [5]
    pamela("report", here / "runs" / "ablation-sine-10s-steps").ok()
    (command,) = [
        line for line in Page(here / "runs/ablation-sine-10s-steps/report.html").commands if "ablate" in line
    ]
    assert "--vary steps --skip-interval 1 --seeds 5" in command


def test_seeds_are_pooled_task_by_task(pamela, mine: Path) -> None:
    grid = [*GRID[:-6], "--steps", "2", "--iterations", "30", "--val-every", "15"]
    assert "--vary" in grid
    document = pamela(*grid, "--seeds", "0,7", "--json", "-q").ok().document
    assert document["seeds"] == [0, 7]
    for row in document["rows"]:
        each = list(row["seed_scores"].values())
        assert len(row["runs"]) == len(each) == 2
        assert row["mse"] == pytest.approx(sum(each) / 2)
        assert row["seed_spread"] == pytest.approx(abs(each[0] - each[1]) / 2**0.5)


def test_a_cell_that_fails_is_marked_and_the_rest_goes_on(pamela, undrawn: None, mine: Path) -> None:
    broken = mine / "runs" / "q-sine-10s-s0-n3"
    (broken / "summary.json").unlink()
    for name in ("last", "previous"):
        (broken / f"{name}.safetensors").write_bytes(b"damaged")
    again = mine / "runs" / "pamela-sine-10s-s0-n3-w2"
    shutil.rmtree(again)
    result = pamela(*GRID, "--figures", "--json", "-q")
    assert result.code == 1
    assert "rows have cells that failed: +Q (n = 3)" in result.err.splitlines()[-1]
    by_label = {row["label"]: row for row in result.document["rows"]}
    assert [by_label[label]["status"] for label in LABELS] == ["done", "failed", "done", "done"]
    assert "last.safetensors" in by_label["+Q"]["failures"]["0"]
    expected = json.loads((mine / "out.json").read_text())["rows"][3]
    assert by_label["+Q+P²"]["gain"] == expected["gain"] and by_label["+Q+P²"]["gain_over_q"] is None
    assert (again / "figures" / "trends.png").exists()


LONG = [
    *("ablate", *SINE, "--vary", "skip-interval", "--steps", "2", "--iterations", "300"),
    *("--val-every", "150", "--jobs", "2"),
]


@pytest.fixture(scope="session")
def undisturbed(made_once, warm) -> dict[str, Any]:
    folder = made_once(
        "undisturbed-ablation",
        lambda folder: (folder / "out.json").write_text(warm(folder, *LONG, "--json").ok().out),
    )
    return json.loads((folder / "out.json").read_text())


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_its_table_is_the_same_after_a_stop(warm, here: Path, undisturbed, number: signal.Signals) -> None:
    job = warm.start(here, *LONG)
    job.when(lambda: any(lines_in(p) > 3 for p in here.glob("runs/*/metrics.jsonl"))).send(number)
    result = job.wait()
    assert result.code == 128 + number
    if number == signal.SIGINT:
        last = result.err.splitlines()[-1]
        assert "of 3 cells are done and the others saved; run the same command again to continue" in last, (
            result.err
        )
        assert any(here.glob("runs/*/last.safetensors"))
    else:  # no cell outlives it: nobody may write to a run that the next ablation goes on with
        time.sleep(0.3)
        before = snapshot(here)
        time.sleep(0.7)
        assert snapshot(here) == before
    assert len([*here.glob("runs/*/summary.json")]) < 3
    assert warm(here, *LONG, "--json").ok().document == undisturbed


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="groups of processes")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_of_a_terminal_before_the_first_cell_has_begun(here: Path, number: int) -> None:
    """It reaches all processes of the group, and the one that starts the cells imports for seconds."""
    command = [sys.executable, "-m", "pamela_cli", *LONG]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        assert any("cells to train" in line for line in process.stderr)
        time.sleep(0.3)
        os.killpg(process.pid, number)
        said = process.stderr.read()
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said and "unexpected" not in said
    assert "of 3 cells are done and the others saved" in said.splitlines()[-1]


def test_settings_that_keep_cells_out_of_a_table_are_named(pamela, mine: Path) -> None:
    table = ["ablate", *SINE, "--iterations", "0", "--table"]
    assert len(pamela(*table, "--json", "-q").ok().document["rows"]) == len(LABELS)
    said = pamela(*table, "--test-tasks", "5", "--inner-lr", "0.5").error(2, "no finished runs with these")
    assert "(the nearest differ in --inner-lr, --test-tasks)" in said


def test_images(pamela, here: Path) -> None:
    write_tiny_store(here / "data" / "tiny.h5")
    grid = ["ablate", *TINY, "--vary", "skip-interval", "--iterations", "2", "--val-every", "2", "--way", "3"]
    document = pamela(*grid, "--json", "-q").ok().document
    assert (document["way"], document["norm_stats"]) == (3, "query")
    assert [row["label"] for row in document["rows"]] == ["MAML", "+Q", "+Q+P¹"]
    assert all(0 <= row["accuracy"] <= 1 and row["status"] == "done" for row in document["rows"])
    assert (
        "queries normalised among themselves"
        in (here / "runs" / "ablation-tiny-3w1s-skip-interval" / "table.md").read_text()
    )


def test_cells_submitted_as_an_array(pamela, here: Path) -> None:
    """By submitit's executor on this machine, which has the interface of that for Slurm."""
    pytest.importorskip("submitit")
    grid = ["ablate", *SINE, "--vary", "steps", "--steps", "1", "--iterations", "10", "--val-every", "10"]
    local = pamela(*grid, "--runs-dir", "other", "--json", "-q").ok().document
    result = pamela(*grid, "--slurm", "cluster=local,timeout_min=5", "--json").ok()
    assert table_of(result.document) == table_of(local)
    assert "q-sine-10s-s0-n1 (+Q, n = 1, seed 0): MSE" in result.err
    assert len([*here.glob("runs/slurm/*_result.pkl")]) == 2


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--vary", "width"], ["--vary must be variant or skip-interval or steps"]),
        (["--format", "html"], ["--format must be table or"]),
        (["--seeds", "0,x"], ["--seeds must be whole numbers"]),
        (["--seeds", "1,1"], ["--seeds names a seed twice"]),
        (["--jobs", "0"], ["--jobs must be at least 1"]),
        (["--iterations", "0"], ["--iterations 0 trains nothing", "--table"]),
        (["--iterations", "0", "--table"], ["has no finished runs"]),
        (["--iterations", "-1"], ["--iterations must be at least 1"]),
        (["--vary", "skip-interval", "--skip-interval", "2"], ["leave out --skip-interval"]),
        (["--methods", "maml,adam"], ["--methods must be among", "'adam'"]),
        (["--methods", "maml,maml"], ["--methods names a method twice"]),
        (["--methods", "pamela", "--steps", "1"], ["no connection to make", "--methods"]),
        (["--device", "cpu,tpu"], ["--device must be auto, cpu, cuda or cuda:N, not 'tpu'"]),
        (["--slurm", "fast"], ["--slurm must look like"]),
        (["--slurm", "cluster=slurm"], ["--slurm: Could not detect", "slurm"]),
        (["--slurm", "cluster=local,width=3"], ["--slurm:", "width"]),
        (["--steps", "0"], ["--steps must be at least 1"]),
        (["--way", "5"], ["--way is for images"]),
    ],
)
def test_wrong_usage(pamela, here: Path, flags: list[str], parts: list[str]) -> None:
    pamela("ablate", *SINE, *flags).error(2, *parts)
    assert {*snapshot(here).values()} <= {"folder"}, "a file was written"


def test_what_cannot_be_written_costs_itself_alone(pamela, ablated: Path, mine: Path) -> None:
    """The table is shown whatever becomes of the files."""
    expected = (ablated / "out.json").read_text()
    (checkpoint,) = (mine / "runs").glob("maml-*/best.safetensors")
    checkpoint.unlink()
    shown = pamela(*GRID, "--figures", "--json").ok()
    assert shown.out == expected
    assert "best.safetensors" in shown.err and "could not be written completely" in shown.err
    folder = mine / "runs" / "ablation-sine-10s-skip-interval"
    shutil.rmtree(folder)
    folder.write_text("in the way")
    shown = pamela(*GRID, "--figures", "--json").ok()
    assert shown.out == expected
    assert f"{folder.relative_to(mine)}" in shown.err and "Traceback" not in shown.err
