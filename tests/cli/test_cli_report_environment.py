"""What a run was computed on, as its page shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_page import Page

from pamela_cli.engine.checkpoint import Checkpoint
from pamela_cli.problem import network, update_rule
from pamela_cli.runs import RunFolder

Report = Callable[..., Page]
CAPTION, NO_COMMAND = "What the run was computed on", "no command gives its bits"


@pytest.fixture
def entry(own_world: Path) -> dict[str, Any]:
    (found,) = json.loads(Path("runs/sine-a/environment.json").read_text())
    return found


def write(*entries: dict[str, Any]) -> None:
    Path("runs/sine-a/environment.json").write_text(json.dumps(entries))


def test_environment(report: Report, entry: dict[str, Any]) -> None:
    page = report("sine-a")
    for name, key in (
        ("PyTorch", "torch"),
        ("CPU", "cpu"),
        ("platform", "platform"),
        ("started (UTC)", "started"),
    ):
        assert page.value(CAPTION, name) == entry[key]
    assert page.value(CAPTION, "GPU") == "–"
    assert page.value(CAPTION, "tasks at a time") == str(entry["plan"]["tasks_at_a_time"])
    assert NO_COMMAND not in page.text


def test_environments_of_a_run_that_moved(report: Report, entry: dict[str, Any]) -> None:
    write(entry, entry | {"from_step": 10}, entry | {"from_step": 30, "gpu": "Some GPU"})
    page = report("sine-a")
    assert page.table(CAPTION)[1] == ["from outer step", "0, 10", "30"]
    assert [page.value(CAPTION, "GPU", i) for i in (1, 2)] == ["–", "Some GPU"]
    assert NO_COMMAND in page.text


@pytest.mark.parametrize("by_an_earlier_version", [False, True])
def test_another_number_of_processes_on_the_way(
    report: Report, entry: dict[str, Any], by_an_earlier_version: bool
) -> None:
    two = entry | {"from_step": 30, "plan": entry["plan"] | {"processes": 2}}
    if by_an_earlier_version:
        del entry["plan"]
    write(entry, two)
    page = report("sine-a")
    shown = [page.value(CAPTION, "processes", i) for i in (1, 2)]
    assert shown == ["–" if by_an_earlier_version else "1", "2"]
    assert NO_COMMAND in page.text


@pytest.mark.parametrize("key", ["code", "torch", "cpu_type", "threads", "tasks_at_a_time", "compiled"])
def test_whatever_rounds_differently_is_told(report: Report, entry: dict[str, Any], key: str) -> None:
    change = {key: "other"} if key in entry else {"plan": entry["plan"] | {key: 77}}
    write(entry, entry | {"from_step": 20} | change)
    assert NO_COMMAND in report("sine-a").text


def test_what_was_lost_again_does_not_count(report: Report, entry: dict[str, Any]) -> None:
    """Killed before the first checkpoint, and begun again elsewhere."""
    write(entry | {"gpu": "Some GPU"}, entry | {"from_step": 0})
    page = report("sine-a")
    assert page.value(CAPTION, "GPU") == "–" and NO_COMMAND not in page.text


def test_memory_that_ran_out_on_the_way(report: Report, entry: dict[str, Any]) -> None:
    run = RunFolder(Path("runs/sine-a"))
    config, _ = run.read_config()
    last = Checkpoint.read(run.last, update_rule(config, network(config)))
    progress = last.progress | {"lowered": [entry["plan"] | {"step": 20}]}
    Checkpoint(last.tensors, progress).write(run.last)
    assert NO_COMMAND in report("sine-a").text
