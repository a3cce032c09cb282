"""Each benchmark runs and says what it measured; that all engines do the same work is its first result."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import comparison, store, tables
from benchmarks.__main__ import main
from benchmarks.comparison import Check, DifferentWorkError, Process, Processes, check, compare
from benchmarks.engines import ENGINES, OURS, installed
from benchmarks.measures import Measure
from benchmarks.ours import Pamela
from benchmarks.peers.autograd_loop import AutogradLoop
from benchmarks.setting import Setting
from pamela_cli.console import Console

TINY = Setting(image_size=16, channels=1, way=3, query=2, width=3, steps=2, meta_batch=2)
FLAGS = [
    *("--image-size", "16", "--way", "3", "--query", "2", "--width", "3", "--meta-batch", "2"),
    *("--steps", "2"),
]
QUIET = Console(quiet=True)


def run(out: Path, *words: str, repetitions: int = 1) -> dict[str, Any]:
    """The document of one benchmark, whose figure must be there too."""
    assert main([*words, "--repetitions", str(repetitions), "--out", str(out)]) == 0
    (file,) = out.glob("*.json")
    for suffix in (".png", ".pdf", ".csv"):
        assert file.with_suffix(suffix).stat().st_size > 0
    document: dict[str, Any] = json.loads(file.read_text())
    assert document["environment"]["torch"] == torch.__version__
    return document


# --- the same work -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("setting", [TINY, replace(TINY, tuned_peers=True), Setting.sine(steps=3)])
def test_every_engine_computes_the_same(name: str, setting: Setting) -> None:
    if installed([name])[1]:
        pytest.skip(f"{ENGINES[name].distribution} is not installed")
    found = check([name], setting, QUIET)[name]
    assert found.failed is None
    assert found.errors["gradient_error"] < 1e-10
    assert found.errors["gradient_error_float32"] < 1e-3


@pytest.mark.parametrize("what", ["gradient", "test"])
def test_other_work_is_refused(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    gradient, test = Pamela.meta_gradient, Pamela.test
    if what == "gradient":
        monkeypatch.setattr(Pamela, "meta_gradient", lambda *given: gradient(*given) * (1 + 1e-6))
    else:
        monkeypatch.setattr(Pamela, "test", lambda *given: test(*given) + 1e-6)
    with pytest.raises(DifferentWorkError, match="pamela-maml does different work"):
        check([OURS], TINY, QUIET)


def test_other_work_ends_the_command(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    monkeypatch.setattr(Pamela, "test", lambda *_: 0.0)
    assert main(["engine", *FLAGS, "--engines", OURS, "--out", str(out)]) == 1
    assert not out.exists()


# --- each benchmark ----------------------------------------------------------------------------------


def test_engine(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(out, "engine", *FLAGS, "--engines", OURS, "pamela", "autograd", "func-vmap")["rows"]
    assert [row["engine"] for row in rows] == [OURS, "pamela", "autograd", "func-vmap"]
    ours, peer = rows[0], rows[2]
    assert ours["train_times_ours"] == 1.0
    assert peer["train_times_ours"] == pytest.approx(peer["train_ms"] / ours["train_ms"])
    limit = 1000 * ours["train_flops"] / ours["matrix_flops_per_second"]
    assert ours["train_share_of_limit"] == pytest.approx(limit / ours["train_ms"])
    shown = capsys.readouterr().out
    assert "times as fast as the fastest peer" in shown
    assert "func-vmap" in shown


def test_growth_measures_every_value(out: Path) -> None:
    rows = run(out, "growth", *FLAGS, "--steps", "1", "3", "--engines", OURS, "pamela-rebuilt")["rows"]
    assert [(row["steps"], row["engine"]) for row in rows] == [
        (steps, engine) for steps in (1, 3) for engine in (OURS, "pamela-rebuilt")
    ]


@pytest.mark.usefixtures("sketched")
def test_growth_along_other_settings(out: Path) -> None:
    words = ["--along", "device", "--device", "cpu", "--engines", OURS]
    assert run(out, "growth", *FLAGS, *words)["benchmark"] == "growth-device"


@pytest.mark.usefixtures("sketched")
def test_sine(out: Path) -> None:
    rows = run(out, "sine", "--iterations", "3", "--engines", OURS, "func-vmap")["rows"]
    assert rows[-2]["what"] == "pamela, 3 iterations of 4 waves"


@pytest.mark.usefixtures("sketched")
def test_first_minute(out: Path) -> None:
    words = ["--seconds", "0.2", "--engines", OURS, "autograd"]
    *_, last = run(out, "first-minute", *FLAGS, *words)["rows"]
    assert last["target"] == 1.2
    assert last["met"] == (last["median"] >= 1.2)


@pytest.mark.usefixtures("sketched")
def test_sampler(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.sampler.measure.__defaults__", (5, 20))
    *_, share = run(out, "sampler", *FLAGS)["rows"]
    assert 0 < share["median"] < 100


def test_store(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CLASS_IMAGES", 20)
    assert len(run(out, "store", "--mebibytes", "1")["rows"]) == 5


@pytest.mark.slow
@pytest.mark.usefixtures("sketched")
def test_startup(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CLASS_IMAGES", 20)
    monkeypatch.setattr("benchmarks.startup.WARMUPS", 0)
    rows = {row["what"]: row for row in run(out, "startup", "--mebibytes", "1")["rows"]}
    help_, first = rows["pamela --help"], rows["pamela meta-train to its first step"]
    assert 0 < help_["median"] < first["median"]
    assert (help_["target"], first["target"]) == (0.4, 5.0)


# --- what can go wrong -------------------------------------------------------------------------------


def test_an_engine_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nmore")

    monkeypatch.setattr(AutogradLoop, "task_loss", too_large)
    with Processes() as processes:
        ours, peer = compare({OURS: Check(), "autograd": Check()}, TINY, 1, processes, QUIET)
    assert ours["failed"] is None
    assert peer["failed"] == "DefaultCPUAllocator: can't allocate memory"
    assert peer["test_ms"] is None
    assert tables.fastest_peer([ours, peer]) == []


def test_that_ours_fails_ends_the_command(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    """Peers are not timed for minutes beside nothing."""

    def fails(*_: object) -> None:
        raise RuntimeError("no kernel image is available\nmore")

    monkeypatch.setattr(Pamela, "meta_gradient", fails)
    with pytest.raises(DifferentWorkError, match=r"pamela-maml fails: no kernel image is available$"):
        check([OURS, "autograd"], TINY, QUIET)
    assert main(["engine", *FLAGS, "--out", str(out)]) == 1


def test_how_ours_computed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that memory forced on it, or graphs that could not be had, make other times."""
    init = Pamela.__init__

    def lowered(self: Pamela, *given: Any, **named: Any) -> None:
        init(self, *given, **named)
        self._runner.lowered.append(replace(self._runner.plan, kept_updates=0))
        self._runner.graphs.refused = "no graphs: why"

    monkeypatch.setattr(Pamela, "__init__", lowered)
    with Processes() as processes:
        rows = compare(check([OURS, "autograd"], TINY, QUIET), TINY, 1, processes, QUIET)
    said = "\n".join(str(part) for part in tables.comparison_table(rows, []).renderables)
    assert "pamela-maml: memory ran short, so a smaller plan was used: Plan(" in said
    assert "pamela-maml: no graphs: why" in said
    assert rows[1]["remarks"] == []


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "higher", replace(ENGINES["higher"], distribution="no-such-thing"))
    assert installed([OURS, "higher"]) == ([OURS], ["higher"])


def test_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with comparison.Process() as process:
        assert isinstance(process, Process)
        with pytest.raises(RuntimeError, match="killed"):
            process.call(os._exit, 9)
        assert process.call(abs, -3) == 3


def test_targets() -> None:
    assert Measure.of("", [1.0, 2.0, 9.0], "s", 2.0).met
    assert not Measure.of("", [1.0, 2.0, 9.0], "s", 3.0, at_least=True).met
    assert Measure.of("", [1.0], "s").met is None


@pytest.mark.parametrize(
    ("device", "size", "times", "said"),
    [
        ("cpu", 32, 3.0, " (wanted: 1.8, met)"),
        ("cpu", 84, 1.4, " (wanted: 1.5, missed)"),
        ("cuda", 84, 9.9, " (wanted: 10.0, missed)"),
        ("cuda:1", 84, 10.1, " (wanted: 10.0, met)"),
        ("cuda", 32, 30.0, ""),
    ],
)
def test_targets_are_those_of_the_device(device: str, size: int, times: float, said: str) -> None:
    row = {"engine": "torchopt", "peer": True, "network": "conv4", "device": device, "image_size": size}
    row |= {"train_ms": 1.0, "train_times_ours": times, "test_ms": 1.0, "test_times_ours": None}
    assert tables.fastest_peer([row]) == [
        f"training: {times:.2f} times as fast as the fastest peer, torchopt{said}"
    ]
