"""`pamela report --list`: the runs in a folder, how far they are, and what they reach."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_support import write_tiny_store

from data_prep import Store

RUNS = ["sine-a", "sine-b", "tiny-a", "tiny-b"]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def entries(pamela) -> dict[str, Any]:
    document = pamela("report", "--list", "--json").ok().document
    assert document["runs_dir"] == "runs"
    return {entry["run"]: entry for entry in document["runs"]}


def test_finished_runs(pamela, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    found = entries(pamela)
    assert list(found) == RUNS
    for name, entry in found.items():
        summary = json.loads((world / f"{name}.json").read_text())
        score = "mse" if name.startswith("sine") else "accuracy"
        for split in ("val", "test"):
            assert entry[split] == {key: summary[split][key] for key in (score, "ci95", "tasks")}
        assert entry["step"] == entry["iterations"] == summary["iterations"]
        assert (entry["status"], entry["fault"]) == ("finished", None)
    assert {key: found["tiny-b"][key] for key in ("method", "dataset", "way", "shot", "steps", "seed")} == {
        "method": "q", "dataset": "tiny", "way": 5, "shot": 1, "steps": 2, "seed": 5,
    }  # fmt: skip
    assert found["sine-a"]["way"] is None
    assert found["tiny-a"]["skip_interval"] == 1 and found["sine-b"]["skip_interval"] is None


def test_runs_are_told_apart_by_what_they_were_set_to(pamela, own_world: Path) -> None:
    config = own_world / "runs/sine-a/config.toml"
    config.write_text(config.read_text().replace("meta_lr = 0.001", "meta_lr = 0.02"))
    found = entries(pamela)
    assert found["sine-a"]["settings"]["meta_lr"] == 0.02
    assert "meta_lr" not in found["sine-b"]["settings"]
    assert not {"method", "seed", "shot", "iterations"} & found["sine-a"]["settings"].keys()
    lines = pamela("report", "--list").ok().out.splitlines()
    (what,) = (line for line in lines if "PAMELA (+Q+P), sine" in line)
    assert "seed 0" in what and "--meta-lr 0.02" in what


def test_a_store_is_opened_once_however_many_runs_it_has(
    pamela, own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To have the recipe of its dataset; another store in its place is noticed."""
    for number in range(5):
        shutil.copytree(own_world / "runs/tiny-a", own_world / f"runs/tiny-{number}")
    opened: list[Path] = []
    usual = Store.open.__func__
    monkeypatch.setattr(Store, "open", classmethod(lambda cls, path: opened.append(path) or usual(cls, path)))
    before = entries(pamela)
    assert len(opened) == 1 and before["tiny-4"]["settings"] == before["tiny-a"]["settings"]
    write_tiny_store(own_world / "data/tiny.h5", dataset="omniglot", seed=1)
    entries(pamela)
    assert len(opened) == 2


@pytest.mark.parametrize("name, best", [("sine-a", min), ("tiny-a", max)])
def test_unfinished_run_has_its_best_validation(pamela, own_world: Path, name: str, best: Any) -> None:
    run = own_world / "runs" / name
    (run / "summary.json").unlink()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    score = "mse" if name.startswith("sine") else "accuracy"
    values = [line[f"val_{score}"] for line in lines if "val_scores" in line]
    assert len(values) > 1
    entry = entries(pamela)[name]
    assert (entry["status"], entry["test"]) == ("unfinished", None)
    assert entry["val"][score] == best(values)
    assert entry["step"] == lines[-1]["step"]
    text = pamela("report", "--list").ok().out
    assert f"{entry['step']} of {entry['iterations']}" in text
    assert "1 unfinished" in text


def test_run_that_has_only_begun(pamela, own_world: Path) -> None:
    for name in ("summary.json", "metrics.jsonl", "last.safetensors"):
        (own_world / "runs" / "tiny-a" / name).unlink()
    entry = entries(pamela)["tiny-a"]
    assert (entry["status"], entry["step"], entry["val"]) == ("unfinished", 0, None)


@pytest.mark.parametrize("file", ["config.toml", "summary.json"])
def test_damaged_run_is_said_and_the_others_are_listed(pamela, own_world: Path, file: str) -> None:
    (own_world / "runs" / "sine-a" / file).write_text("{")
    found = entries(pamela)
    assert found["sine-a"]["status"] == "damaged"
    assert file in found["sine-a"]["fault"]
    assert [found[name]["status"] for name in RUNS[1:]] == ["finished"] * 3
    assert file in " ".join(pamela("report", "--list").ok().out.split())


def test_names_are_shown_as_they_are(pamela, own_world: Path) -> None:
    runs = own_world / "runs"
    (runs / "sine-a").rename(runs / "[red]sine\x1b[2J")
    out = pamela("report", "--list").ok().out
    assert "[red]sine" in out
    assert "\x1b" not in out


def test_table_and_ablations(pamela, own_world: Path) -> None:
    folder = own_world / "runs" / "ablation-tiny-5w1s"
    folder.mkdir()
    (folder / "ablation.json").write_text("{}")
    out = pamela("report", "--list").ok().out
    test = json.loads((own_world / "tiny-a.json").read_text())["test"]
    assert f"{100 * test['accuracy']:.2f} % ± {100 * test['ci95']:.2f}" in out
    assert "PAMELA (+Q+P), tiny, 5-way 1-shot, seed 0" in out
    assert "4 runs; 95 % intervals; ablations: ablation-tiny-5w1s" in out
    assert pamela("report", "--list", "--json").ok().document["ablations"] == ["ablation-tiny-5w1s"]


def test_no_runs(pamela, here: Path) -> None:
    assert pamela("report", "--list", "--json").ok().document == {
        "runs_dir": "runs", "runs": [], "ablations": [],
    }  # fmt: skip
    assert pamela("report", "--list").ok().out == "Runs in runs\nnone yet\n"


def test_nothing_is_written(pamela, own_world: Path) -> None:
    shutil.rmtree(own_world / "runs" / "sine-b" / "figures")
    before = sorted(own_world.rglob("*"))
    pamela("report", "--list").ok()
    assert sorted(own_world.rglob("*")) == before


def test_wrong_usage(pamela, own_world: Path) -> None:
    pamela("report").error(2, "RUN is missing", "`pamela report --list`")
    pamela("report", "--list", "sine-a").error(2, "--list", "leave out sine-a")
    pamela("report", "--list", "--out", "page.html").error(2, "--list", "leave out page.html")
