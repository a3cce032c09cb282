"""Names from strangers, and documents: shown as they are, and neither markup nor commands to the terminal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_hostile import NO_FILES, Attacks, replaced
from safetensors.numpy import save

pytestmark = pytest.mark.usefixtures("undrawn")

NAMES = ["[red]x [/] :smile:", "\x1b[2J\x07\n\u202ex\x9b2J", "-x"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_are_shown_and_do_nothing(pamela, own_world: Path, name: str) -> None:
    run = own_world / "runs" / name
    shutil.copytree(own_world / "runs" / "sine-a", run)
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"run": name, "dataset": name}))
    for command in (
        ["meta-train", "--run", f"runs/{name}", "--resume"],
        ["evaluate", f"runs/{name}", "sine-b", "--tasks", "4"],
        ["report", f"runs/{name}", "--json"],
        ["evaluate", f"runs/{name}/none"],
    ):
        result = pamela(*command)
        assert result.code == (2 if command[1].endswith("none") else 0), result.err
        shown = result.out + result.err
        assert "Traceback" not in shown
        assert all(c.isprintable() or c == "\n" for c in shown), ascii(shown)
        assert name in shown or not name.isprintable()


def test_a_name_that_is_no_unicode(pamela, own_world: Path) -> None:
    run = own_world / "runs" / "\udcff"
    shutil.copytree(own_world / "runs" / "sine-a", run)
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"run": run.name}))
    found = pamela("meta-train", "--run", f"runs/{run.name}", "--resume", "--json").ok().document
    assert found["run"] == run.name
    pamela("report", f"runs/{run.name}", "--json").ok()
    pamela("evaluate", f"runs/{run.name}").error(1, "is not a readable checkpoint")


ODD_RUNS = [
    "",
    ".",
    "..",
    "/",
    "runs",
    "a/../b",
    "\0",
    "x" * 300,
    "runs/sine-a/config.toml",
    "~",
    "*",
    "../..",
]


def test_odd_names_of_runs(pamela, own_world: Path) -> None:
    attacks = Attacks(pamela, own_world, "sine-a")
    for name in ODD_RUNS:
        for command in (["evaluate", name], ["report", name], ["meta-train", "--resume", f"--run={name}"]):
            attacks.refused(f"run {name!a}", command)
        if name not in ("a/../b", "~", "*", "runs"):  # a new run may be called so
            attacks.refused(f"new run {name!a}", ["meta-train", "--dataset", "sine", f"--run={name}"])
    attacks.refused("new run", ["meta-train", "--dataset", "sine", "--run", "new/.."], "--run new/..")
    assert not attacks.faults, "\n".join(attacks.faults)


DEEP = "[" * 600 + "]" * 600
ABLATIONS = [
    *(
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"rows": {}}',
        '{"rows": [1]}',
        "[" * 100_000,
        DEEP,
        "9" * 10_000,
        "\0" * 100,
    ),
    '{"rows": [{"label": "[/red]", "steps": {}, "runs": ["..", "/etc", "a/../b", "\\u0000", "\\ud800", 3]}]}',
    '{"rows": [{"variant": [], "mse": "x", "ci95": {}, "failures": {"0": [[]]}}], "seeds": [[]], "shot": {}}',
    '{"rows": [{"variant": {}, "steps": [], "runs": ["sine-a"]}], "seeds": ["x", null]}',
    '{"rows": [{"gain": 1e400, "failures": "x", "runs": {}}], "tasks": "x", "way": [], "dataset": null}',
    '{"rows": [{"variant": "maml", "steps": 99999999999999999999, "runs": ["sine-a"]}], "seeds": 5}',
    '{"rows": [{"variant": "maml", "steps": NaN, "skip_interval": true}], "way": 1e999, "shot": "x"}',
]


def test_odd_ablations(pamela, own_world: Path) -> None:
    attacks = Attacks(pamela, own_world, "sine-a")
    file = own_world / "runs" / "ablation-odd" / "ablation.json"
    file.parent.mkdir()
    for text in ABLATIONS:
        file.write_text(text)
        attacks.harmless(f"ablation {text[:40]}", ["report", "ablation-odd", "-q"])
    assert not attacks.faults, "\n".join(attacks.faults)


@pytest.mark.parametrize(
    "text", ["3", "\0" * 9, "[" * 100_000, '{"run": "x"}', '{"x": ' + DEEP + "}"], ids=range(5)
)
def test_odd_summaries(pamela, own_world: Path, text: str) -> None:
    (own_world / "runs/sine-a/summary.json").write_text(text)
    resume = ["meta-train", "--run", "sine-a", "--resume", "--json"]
    pamela(*resume).error(1, "runs/sine-a/summary.json is damaged; delete it")


def test_an_ablation_with_scores_of_another_form(pamela, own_world: Path) -> None:
    table = [
        "ablate",
        "--dataset",
        "sine",
        "--width",
        "8",
        "--test-tasks",
        "4",
        "--iterations",
        "0",
        "--table",
    ]
    record = json.dumps({"format": "pamela scores 1", "tasks": {"test": "these"}})
    scores = {f"test.{name}": np.zeros((3, 6)) for name in ("loss", "score")}
    (own_world / "runs/sine-a/scores.safetensors").write_bytes(save(scores, {"pamela": record}))
    for i, kind in enumerate(NO_FILES):  # and folders that are no runs
        shutil.copytree(own_world / "runs/sine-b", own_world / f"runs/{i}")
        replaced(own_world / f"runs/{i}/config.toml", kind)
    result = pamela(*table, "--no-figures", "-q")
    assert result.code == 1
    assert result.err == "error: 1 of 2 rows have cells that failed: +Q+P² (n = 5).\n"
    assert "its test scores have the wrong shapes" in " ".join(result.out.split())
