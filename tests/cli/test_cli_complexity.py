"""`pamela complexity`: the document, its files, the table, wrong flags, and stopping."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pytest
from cli_support import Result, snapshot
from rich.console import Console

from pamela_cli.complexity import measure, session
from pamela_cli.complexity.cases import Work
from pamela_cli.display.complexity import complexity_tables

TINY = [
    *("--image-size", "16", "--width", "4", "--query", "2", "--steps", "3"),
    *("--repetitions", "2", "--device", "cpu"),
]
KEYS = [
    *("method", "order", "theta", "q", "p", "total", "updates", "train_ms", "train_ms_spread", "test_ms"),
    *("test_ms_spread", "train_flops", "test_flops", "peak_memory_bytes", "paper"),
]


@pytest.fixture(scope="session")
def measured(made_once, warm) -> tuple[Path, Result]:
    """A folder in which two methods were measured on tiny tasks, and what the command said."""

    def make(folder: Path) -> None:
        result = warm(folder, "complexity", *TINY, "--methods", "meta-sgd,pamela", "--json").ok()
        (folder / "said.json").write_text(json.dumps([result.out, result.err]))

    folder = made_once("measured", make)
    return folder, Result(0, *json.loads((folder / "said.json").read_text()))


def test_document_keeps_the_contract(measured) -> None:
    document = measured[1].document
    wanted = {
        "device": "cpu",
        "way": 5,
        "shot": 1,
        "query": 2,
        "image_size": 16,
        "width": 4,
        "repetitions": 2,
    }
    assert {key: document[key] for key in wanted} == wanted
    rows = document["rows"]
    assert [(r["method"], r["order"], r["updates"]) for r in rows] == [
        ("meta-sgd", "second", 1),
        ("meta-sgd", "first", 1),
        ("pamela", "second", 3),
        ("pamela", "first", 3),
    ]
    for row in rows:
        assert set(KEYS) <= set(row)
        assert row["total"] == row["theta"] + row["q"] + row["p"]
        assert row["paper"] is None
        for what in ("train", "test"):
            assert row[f"{what}_ms"] > 0
            assert row[f"{what}_ms_spread"] >= 0
            assert row[f"{what}_flops"] > 0
            assert len(row[f"{what}_ms_samples"]) == 2
            assert row[f"{what}_ms_warmup"] > 0
    for second, first in (rows[:2], rows[2:]):
        assert second["train_flops"] > first["train_flops"] > first["test_flops"]
        assert second["test_ms"] == first["test_ms"]


def test_files_are_beside_each_other(measured) -> None:
    folder, result = measured
    stem = folder / "runs/complexity/complexity-16x16-5w1s-query2-steps3-width4-of-meta-sgd-pamela-cpu"
    assert {path.name for path in stem.parent.iterdir()} == {
        stem.name + suffix for suffix in (".json", ".png", ".pdf", ".csv")
    }
    assert json.loads(stem.with_suffix(".json").read_text()) == result.document
    with stem.with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["order"]) for row in rows] == [
        (row["method"], row["order"]) for row in result.document["rows"]
    ]
    assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert str(stem.relative_to(folder)) in result.err


def test_warm_up_is_shown(measured) -> None:
    assert "warm-up round" in measured[1].err
    assert "2 rounds follow" in measured[1].err


def papers_setting(document: dict) -> dict:
    """The document, as if it were that of the paper's setting on a slow machine."""
    rows = [row | {"theta": 121_093, "q": 121_093, "total": 242_186} for row in document["rows"]]
    slow = {"train_ms": 12_345.6, "train_ms_spread": 1234.5, "test_ms": 2345.6, "test_ms_spread": 234.5}
    paper = {"parameters": 242_180, "updates": 1, "train_ms": 53.75, "test_ms": 16.67}
    rows = [row | slow | {"paper": paper if row["order"] == "second" else None} for row in rows]
    return document | {"rows": rows, "image_size": 84}


@pytest.mark.parametrize("width", [80, 100])
def test_table_is_readable(measured, width: int) -> None:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(complexity_tables(papers_setting(measured[1].document)))
    lines = capture.get().splitlines()
    (row,) = (line for line in lines if line.startswith("meta-sgd  second"))
    for cell in ("12,346 (1,234)", "53.75", "2,346 (234)", "16.67"):
        assert cell in row
    assert any(line.startswith("meta-sgd") and "242,186  242.18×10³" in line for line in lines)
    assert "…" not in capture.get()
    said = " ".join(capture.get().split())
    assert "does not state the hardware, the shot" in said
    assert "2 repetitions after a warm-up" in said


def test_table_without_the_paper(measured) -> None:
    console = Console(width=80, highlight=False)
    with console.capture() as capture:
        console.print(complexity_tables(measured[1].document))
    assert "paper" not in capture.get()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--image-size", "15"], ["--image-size must be at least 16"]),
        (["--image-size", "225"], ["--image-size must be at most 224"]),
        (["--image-size", "big"], ["--image-size must be a whole number"]),
        (["--channels", "4"], ["--channels must be at most 3"]),
        (["--repetitions", "1"], ["--repetitions must be at least 2"]),
        (["--way", "1"], ["--way must be at least 2"]),
        (["--shot", "0"], ["--shot must be at least 1"]),
        (["--query", "1001"], ["--query must be at most 1,000"]),
        (["--steps", "0"], ["--steps must be at least 1"]),
        (["--steps", "1"], ["--steps must be at least 2", "pamela"]),
        (["--skip-interval", "5"], ["--skip-interval must be below --steps"]),
        (["--skip-interval", "0"], ["--skip-interval must be at least 1"]),
        (["--skip-interval", "2", "--methods", "maml,q"], ["--skip-interval is for pamela, not for maml, q"]),
        (["--steps", "3", "--methods", "meta-sgd"], ["--steps is for maml,", "not for meta-sgd"]),
        (["--width", "0"], ["--width must be at least 1"]),
        (["--precision", "float16"], ["--precision must be one of float32, float64"]),
        (["--methods", "maml,reptile"], ["--methods must be among maml,", "'reptile'"]),
        (["--methods", ""], ["--methods is empty"]),
        (["--methods", "maml,"], ["--methods must be among maml,"]),
        (["--methods", "fomaml"], ["first-order rows show the costs"]),
        (["--device", "gpu"], ["--device must be auto, cpu, cuda or cuda:N"]),
        (["--inner-lr", "1"], ["--inner-lr"]),
        (["extra"], ["extra"]),
    ],
)
def test_wrong_flags(pamela, here: Path, arguments: list[str], parts: list[str]) -> None:
    pamela("complexity", *arguments).error(2, *parts)
    assert snapshot(here) == {}


def test_a_folder_that_cannot_be_written_is_told_before_measuring(pamela, here: Path) -> None:
    (here / "runs").touch()
    pamela("complexity", *TINY).error(1, "runs/complexity cannot be created", "--runs-dir")
    assert snapshot(here).keys() == {"runs"}


@pytest.mark.parametrize(("spread", "warned"), [(24.0, False), (26.0, True)])
def test_times_that_spread_are_warned_of(
    pamela, here: Path, measured, monkeypatch, spread: float, warned: bool
) -> None:
    steady = {"train_ms": 100.0, "train_ms_spread": 1.0, "test_ms": 100.0, "test_ms_spread": 1.0}
    rows = [row | steady for row in measured[1].document["rows"]]
    rows[1]["train_ms_spread"] = spread
    monkeypatch.setattr(session, "measure", lambda *_: measured[1].document | {"rows": rows})
    error = pamela("complexity", "--no-figures").ok().err
    assert ("warning: " in error) is warned
    assert ("26 % of their median (training of meta-sgd, first order)" in error) is warned


def test_files_that_cannot_be_written_do_not_cost_the_result(
    pamela, here: Path, measured, monkeypatch
) -> None:
    document = measured[1].document
    monkeypatch.setattr(session, "measure", lambda *_: document)
    monkeypatch.setattr(session, "_check_writable", lambda folder: None)
    (here / "runs").touch()
    result = pamela("complexity", *TINY, "--json").ok()
    assert result.document == document
    assert "warning: " in result.err


def test_without_figures_the_document_is_written(pamela, here: Path, measured, monkeypatch) -> None:
    document = measured[1].document
    monkeypatch.setattr(session, "measure", lambda *_: document)
    result = pamela("complexity", "--no-figures", "--json", "--runs-dir", "elsewhere").ok()
    (written,) = (here / "elsewhere/complexity").iterdir()
    assert written.name == "complexity-84x84-5w1s-cpu.json"
    assert json.loads(written.read_text()) == result.document == document


def assert_stopped(result: Result, number: int, here: Path) -> None:
    assert result.code == 128 + number
    assert result.err.splitlines()[-1].startswith(f"error: stopped by {signal.Signals(number).name}")
    assert "Traceback" not in result.err
    assert snapshot(here) == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_memory_is_measured(warm, here: Path, number: int) -> None:
    job = warm.start(here, "complexity", *TINY, "--methods", "maml")
    job.when(lambda: "second and first order" in job._err.read_text())
    job.send(number)
    assert_stopped(job.wait(), number, here)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_times_are_taken(pamela, here: Path, monkeypatch, number: int) -> None:
    monkeypatch.setattr(measure, "peak_memories", lambda cases, plan: [None] * len(cases))
    train, rounds = Work.train, iter(range(1000))

    def stopping(self, tasks, runner) -> None:
        if next(rounds) == 3:
            os.kill(os.getpid(), number)
        train(self, tasks, runner)

    monkeypatch.setattr(Work, "train", stopping)
    result = pamela("complexity", *TINY, "--methods", "maml", "--repetitions", "1000")
    assert "warm-up round" in result.err
    assert_stopped(result, number, here)
    assert next(rounds) < 10, "it went on"
