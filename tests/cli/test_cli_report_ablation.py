"""`pamela report` on the folder of an ablation, which it knows by ablation.json alone."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from cli_page import Page
from PIL import Image

pytestmark = pytest.mark.usefixtures("undrawn")
ROW = {"variant": "maml", "label": "MAML", "skip_interval": None, "steps": 5, "status": "done"}
ROWS = [
    ROW | {"mse": 0.5, "ci95": 0.1, "seed_spread": None, "gain": None, "gain_ci95": None, "runs": ["sine-b"]},
    ROW
    | {
        "variant": "pamela",
        "label": "+Q+P²",
        "skip_interval": 2,
        "mse": 0.25,
        "ci95": 0.05,
        "runs": ["sine-a"],
    }
    | {"gain": 0.25, "gain_ci95": 0.02, "gain_over_q": -0.001, "gain_over_q_ci95": 0.5},
    ROW | {"variant": "q", "label": "+Q", "status": "failed", "failures": {"0": "it <b>burned</b>."}},
]
DOCUMENT = {
    "dataset": "sine", "way": None, "shot": 10, "query": 1000, "tasks": 4, "seeds": [0], "iterations": 40,
    "norm_stats": None, "further": {"key": [1]}, "rows": ROWS,
}  # fmt: skip


@pytest.fixture
def ablation(own_world: Path) -> Path:
    """The folder of an ablation beside the runs of its cells."""
    folder = own_world / "runs" / "ablation-sine-10s"
    (folder / "figures").mkdir(parents=True)
    for name in ("dissection", "convergence"):
        Image.new("RGB", (400, 300), "teal").save(folder / "figures" / f"{name}.png")
    (folder / "figures" / "dissection.csv").write_text("label,mse\nMAML,0.5\n")
    write(folder, DOCUMENT)
    return folder


def write(folder: Path, document: Any) -> None:
    (folder / "ablation.json").write_text(json.dumps(document))


def test_page(pamela, ablation: Path) -> None:
    result = pamela("report", "ablation-sine-10s", "--json").ok()
    assert result.document == {"report": "runs/ablation-sine-10s/report.html", "runs": []}
    page = Page(ablation / "report.html")
    page.assert_alone()
    assert page.headings[0] == "Ablation on sine, 10-shot"
    header, *rows = page.table("Every row on the same 4 test tasks, after 40 outer steps, seeds 0")
    assert header == ["variant", "w", "updates", "status", "MSE", "gain over MAML", "gain over +Q"]
    assert rows == [
        ["MAML", "", "5", "", "0.5000 ± 0.1000", "", ""],
        ["+Q+P²", "2", "5", "", "0.2500 ± 0.0500", "+0.2500 ± 0.0200", "−0.0010 ± 0.5000"],
        ["+Q", "", "5", "failed", "", "", ""],
    ]
    assert "+Q, seed 0, failed: it <b>burned</b>." in page.text
    assert len(page.images) == 2
    assert "Score of each variant, and its gain over MAML" in page.text


def test_settings_of_the_cells(pamela, ablation: Path) -> None:
    pamela("report", ablation).ok()
    page = Page(ablation / "report.html")
    own = page.table("The runs, and the settings in which they differ")
    assert own[0] == ["run", "method", "skip_interval", "test"]
    assert [row[:3] for row in own[1:]] == [["sine-b", "maml", ""], ["sine-a", "pamela", "2"]]
    shared = {row[0]: row[1] for row in page.table("The settings that all runs share")[1:]}
    assert shared["iterations"] == "40"
    assert "method" not in shared


def test_commands_give_it_again(pamela, ablation: Path) -> None:
    pamela("report", ablation).ok()
    commands = Page(ablation / "report.html").commands
    settings = "--width 8 --iterations 40 --val-every 20 --val-tasks 4 --test-tasks 4"
    assert commands == [
        f"pamela ablate --dataset sine --vary skip-interval {settings}",
        "pamela meta-train --config runs/sine-b/config.toml",
        "pamela meta-train --config runs/sine-a/config.toml",
    ]


def test_what_ablate_writes_is_read(pamela, own_world: Path) -> None:
    few = ["--iterations", "4", "--val-every", "2", "--val-tasks", "2", "--test-tasks", "3", "--width", "6"]
    pamela("ablate", "--dataset", "sine", "--steps", "2", *few, "--no-figures", "-q").ok()
    pamela("ablate", "--dataset", "sine", "--steps", "2", *few, "-q").ok()  # its own figures alone
    folder = next((own_world / "runs").glob("ablation-*"))
    pamela("report", folder).ok()
    page = Page(folder / "report.html")
    page.assert_alone()
    assert len(page.images) >= 2
    words = shlex.split(page.commands[0])
    before = (folder / "ablation.json").read_text()
    assert pamela(*words[1:], "-q").ok()
    assert (folder / "ablation.json").read_text() == before


def test_with_runs(pamela, ablation: Path) -> None:
    document = pamela("report", "sine-a", ablation, "--json").ok().document
    assert document["report"] == "runs/report.html"
    assert [run["run"] for run in document["runs"]] == ["sine-a"]
    page = Page(ablation.parent / "report.html")
    assert page.headings[:2] == ["1 run and 1 ablation", "Ablation on sine, 10-shot"]
    assert "sine-a" in page.headings


def test_hostile_names_lead_nowhere(pamela, ablation: Path, own_world: Path) -> None:
    names = ["../runs/sine-a", "/etc", "..", ".", "", "none", 3, None, "<script>", "data"]
    write(ablation, DOCUMENT | {"rows": [ROWS[0] | {"label": "<script>x</script>", "runs": names}]})
    pamela("report", ablation).ok()
    page = Page(ablation / "report.html")
    page.assert_alone()
    assert "<script>x</script>" in page.text
    assert "The runs of the cells are not beside the ablation's folder" in page.text


@pytest.mark.parametrize(
    "document", [{"rows": []}, {"rows": [{}]}, {"rows": [{"mse": "x", "runs": "sine-a"}], "seeds": 3}]
)
def test_poor_documents(pamela, ablation: Path, document: Any) -> None:
    write(ablation, document)
    pamela("report", ablation).ok()
    Page(ablation / "report.html").assert_alone()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"rows": 3}', '{"rows": [3]}'])
def test_damaged_document(pamela, ablation: Path, content: str) -> None:
    (ablation / "ablation.json").write_text(content)
    pamela("report", ablation).error(1, "ablation.json is damaged", "pamela ablate")
