"""`pamela evaluate` of several runs: compared in pairs, on the same tasks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import SINE, TINY, Result, write_tiny_store

from pamela_cli import evaluating
from pamela_cli.engine.intervals import Floats
from pamela_cli.runs import RunFolder
from pamela_cli.scores import read_scores

Evaluate = Callable[..., Result]


def gains_of(*runs: Path) -> tuple[Floats, int]:
    """What the second run loses against the first on each test task, by their own scores; how many."""
    a, b = (read_scores(run / "scores.safetensors", RunFolder(run).read_config()[0])["test"] for run in runs)
    return a.scores.final - b.scores.final, len(a.scores.final)


@pytest.mark.parametrize("kind", ["tiny", "sine"])
def test_pairs_are_consistent_with_the_runs(evaluate: Evaluate, world: Path, kind: str) -> None:
    names = [f"{kind}-a", f"{kind}-b"]
    gains, count = gains_of(*(world / "runs" / name for name in names))
    document = evaluate(*names, tasks=count).ok().document
    assert set(document) == {"runs", "pairs"}
    assert document["runs"] == [evaluate(name, tasks=count).ok().document for name in names]
    (pair,) = document["pairs"]
    assert set(pair) == {"a", "b", "difference", "ci95"}
    assert [pair["a"], pair["b"]] == names
    a, b = document["runs"]
    # A positive difference: a is better, which for errors is the smaller.
    expected = a["accuracy"] - b["accuracy"] if kind == "tiny" else b["mse"] - a["mse"]
    assert pair["difference"] == pytest.approx(expected, abs=1e-9)
    assert pair["difference"] != 0
    assert pair["ci95"] == pytest.approx(1.96 * gains.std(ddof=1) / count**0.5, rel=1e-6)
    reverse = evaluate(*names[::-1], tasks=count).ok().document["pairs"][0]
    assert (reverse["difference"], reverse["ci95"]) == pytest.approx((-pair["difference"], pair["ci95"]))


def test_three_runs_make_three_pairs(evaluate: Evaluate) -> None:
    document = evaluate("sine-a", "sine-b", "sine-a").ok().document
    assert len(document["runs"]) == 3
    ends = [(pair["a"], pair["b"]) for pair in document["pairs"]]
    assert ends == [("sine-a", "sine-b"), ("sine-a", "sine-a"), ("sine-b", "sine-a")]


def test_the_better_run_comes_first_for_people(
    pamela, own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options = ["--tasks", 8, "--no-figures"]
    (pair,) = pamela("evaluate", "sine-a", "sine-b", *options, "--json").ok().document["pairs"]
    better, other = ("sine-a", "sine-b") if pair["difference"] > 0 else ("sine-b", "sine-a")
    includes_0 = abs(pair["difference"]) <= pair["ci95"]
    for names in (("sine-a", "sine-b"), ("sine-b", "sine-a")):
        shown = pamela("evaluate", *names, *options, "-q").ok().out
        line = next(line for line in shown.splitlines() if "gain of" in line)
        assert f"gain of {better} over {other}" in line
        assert "+" in line and "−" not in line
        assert "better" not in shown
        assert ("0 is in the interval" in line) == includes_0


def test_names_that_differ_at_their_end_are_told_apart(pamela, own_world: Path) -> None:
    names = [f"pamela-of-a-long-name-5w1s-with-more-s{seed}" for seed in (0, 1)]
    for name in names:
        shutil.copytree("runs/sine-a", f"runs/{name}")
    shutil.copytree("runs/sine-a", f"colleague/{names[0]}")
    options = ["--tasks", 4, "--no-figures", "-q"]
    shown = re.sub(r"[\s│]", "", pamela("evaluate", *names, *options).ok().out)
    assert shown.count("s0") == shown.count("s1") == 2
    same = ["evaluate", f"runs/{names[0]}", f"colleague/{names[0]}", *options, "--json"]
    (pair,) = pamela(*same).ok().document["pairs"]
    assert (pair["a"], pair["b"]) == (f"runs/{names[0]}", f"colleague/{names[0]}")


def test_a_run_is_named_from_within_its_folder(pamela, own_world: Path, monkeypatch) -> None:
    place = ["--data-dir", own_world / "data", "--tasks", 4, "--no-figures", "-q", "--json"]
    monkeypatch.chdir(own_world / "runs" / "sine-a")
    assert pamela("evaluate", ".", *place).ok().document["run"] == "sine-a"


def test_a_folder_of_the_name_of_a_run_does_not_hide_it(pamela, own_world: Path) -> None:
    (own_world / "sine-a").mkdir()
    assert (
        pamela("evaluate", "sine-a", "--tasks", 4, "--no-figures", "--json").ok().document["run"] == "sine-a"
    )
    (own_world / "photos").mkdir()
    pamela("evaluate", "photos").error(2, "photos is not a run")
    quick = ["--iterations", 2, "--val-every", 1, "--no-figures", "-q"]
    pamela("meta-train", *SINE, *quick, "--run", "photos").ok()
    assert (own_world / "runs" / "photos" / "summary.json").exists()


def test_a_name_that_is_nearly_right(pamela, own_world: Path) -> None:
    pamela("evaluate", "sine-q").error(2, "there is no run runs/sine-q; did you mean sine-b or sine-a?")


@pytest.mark.parametrize("name", ["tiny-a", "sine-a"])
def test_a_run_against_itself(evaluate: Evaluate, name: str) -> None:
    (pair,) = evaluate(name, name).ok().document["pairs"]
    assert (pair["difference"], pair["ci95"]) == (0, 0)


def test_runs_on_different_data_cannot_be_compared(evaluate: Evaluate) -> None:
    evaluate("tiny-a", "sine-a", "-q").error(2, "tiny-a", "sine-a", "dataset")


def test_runs_with_different_shots_need_a_common_one(pamela, own_world: Path) -> None:
    quick = ["--iterations", 2, "--val-every", 1, "--run", "more", "-q"]
    pamela("meta-train", *SINE, "--shot", 5, *quick).ok()
    options = ["--tasks", 4, "--no-figures", "-q", "--json"]
    pamela("evaluate", "sine-a", "more", *options).error(2, "shot", "10", "5")
    assert len(pamela("evaluate", "sine-a", "more", "--shot", 7, *options).ok().document["pairs"]) == 1


def test_runs_that_cannot_be_compared_are_told_before_any_is_judged(
    pamela, own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluating, "judge", lambda *_, **__: pytest.fail("a run was judged"))
    pamela("evaluate", "tiny-a", "sine-a").error(2, "dataset is tiny in one and sine in the other")


def test_stores_of_one_name_are_not_one_dataset(pamela, own_world: Path) -> None:
    """Tasks are the same only on the same store, whatever its file is called."""
    write_tiny_store(own_world / "else" / "tiny.h5", seed=1)
    quick = ["--iterations", 2, "--val-every", 1, "--run", "other", "-q"]
    pamela("meta-train", *TINY, "--data-dir", "else", *quick).ok()
    pamela("evaluate", "tiny-a", "other", "--tasks", 4, "--no-figures", "-q").error(1, "checksum")


@pytest.mark.parametrize(("name", "usual", "other"), [("way", 5, 3), ("query", 15, 5)])
def test_runs_on_other_tasks_cannot_be_compared(
    pamela, own_world: Path, name: str, usual: int, other: int
) -> None:
    config = Path(shutil.copytree("runs/tiny-b", "runs/more")) / "config.toml"
    config.write_text(re.sub(rf"(?m)^{name} = .*$", f"{name} = {other}", config.read_text()))
    said = f"{name} is {usual} in one and {other} in the other"
    pamela("evaluate", "tiny-a", "more", "--tasks", 4, "--no-figures", "-q").error(2, said)
