"""`pamela report` on folders from elsewhere: what is in them is shown as text, and damage is said."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from cli_page import MARKUP, Page, hostile_run
from cli_support import snapshot
from matplotlib.figure import Figure
from PIL import Image

from pamela_cli.report.page import Note, Section, Table, to_html
from pamela_cli.report.page import Page as Content
from pamela_cli.untrusted import on_one_line, printable

pytestmark = pytest.mark.usefixtures("undrawn")


def assert_harmless(page: Page) -> None:
    page.assert_alone()
    assert "<script" not in page.source
    assert "window.pwned=1</script>" not in page.source
    assert MARKUP in page.text


def test_markup_in_every_text_of_a_run(pamela, own_world: Path) -> None:
    run = hostile_run(own_world)
    pamela("report", run.name).ok()
    page = Page(run / "report.html")
    assert_harmless(page)
    assert page.headings[0] == run.name
    assert page.value("All settings", "dataset") == MARKUP
    assert page.value("What the run was computed on", "CPU") == MARKUP
    assert len(page.images) == 4


def test_markup_among_several_runs(pamela, own_world: Path) -> None:
    run = hostile_run(own_world)
    pamela("report", "tiny-a", run.name, "sine-a").ok()
    page = Page(own_world / "runs/report.html")
    assert_harmless(page)
    assert page.table("Results with")[2][0] == run.name


def test_commands_are_quoted_for_the_shell(pamela, own_world: Path) -> None:
    run = hostile_run(own_world, "x; touch pwned #")
    pamela("report", run.name).ok()
    commands = Page(run / "report.html").commands
    assert "pamela meta-train --config 'runs/x; touch pwned #/config.toml'" in commands
    assert any(line.startswith("pamela meta-train --dataset '<script>") for line in commands)


ODD = [
    "$x^$",
    "_",
    "名前",
    "a" * 200,
    "a" * 199 + "b",
    "two\nlines",
    "left\u202eright",
    ".hidden",
    "50%",
    "{x}",
]


def test_odd_names(pamela, own_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of any kind, also in a figure, whose texts are laid out."""
    save = Figure.savefig

    def lay_out(figure: Figure, path: Path, **options: str) -> None:
        figure.draw_without_rendering()
        save(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", lay_out)
    for name in ODD:
        shutil.copytree(own_world / "runs" / "sine-b", own_world / "runs" / name)
    assert pamela("report", "-q", *(f"runs/{name}" for name in ODD)).ok().err == ""
    page = Page(own_world / "runs/report.html")
    page.assert_alone()
    assert [row[0] for row in page.table("Results with")[1:]] == [printable(name) for name in ODD]
    assert "\u202e" not in page.source
    with (own_world / "runs/report-figures/convergence.csv").open(newline="") as file:
        assert len({row["variant"] for row in csv.DictReader(file)}) == len(ODD)


def test_path_that_ends_in_dots(pamela, own_world: Path) -> None:
    pamela("report", "runs/sine-a/figures/..", "--out", "x.html").ok()
    assert Page(own_world / "x.html").headings[0] == "sine-a"


FILES = [
    *("environment.json", "summary.json", "metrics.jsonl"),
    *("scores.safetensors", "best.safetensors", "last.safetensors"),
]
DAMAGES = [b"", b"{", b"\xff\xfe\x00", b"null", b"[1, [2]]", b"[" * 100_000, b"{}"]


@pytest.mark.parametrize("content", DAMAGES)
def test_all_files_damaged(pamela, own_world: Path, content: bytes) -> None:
    run = own_world / "runs" / "sine-a"
    for name in FILES:
        (run / name).write_bytes(content)
    assert pamela("report", "sine-a", "--json").ok().document["runs"] == [None]
    Page(run / "report.html").assert_alone()


@pytest.mark.parametrize("name", FILES)
def test_one_file_damaged(pamela, own_world: Path, name: str) -> None:
    run = own_world / "runs" / "sine-a"
    (run / name).write_bytes(b"\xff\xfe damaged")
    result = pamela("report", "sine-a", "--json").ok()
    assert (result.document["runs"] == [None]) == (name == "summary.json")
    page = Page(run / "report.html")
    page.assert_alone()
    said = {
        "environment.json": "There is no record of what this run was computed on.",
        "best.safetensors": "The figure “trends” could not be drawn",
    }
    assert said.get(name, f"Its {name} is damaged") in page.text
    if name not in said:
        assert f"warning: runs/sine-a: Its {name} is damaged" in result.err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seconds", 10**400),
        ("tasks_per_second", "fast"),
        ("method", "unknown"),
        ("val", None),
        ("test", {"mse": 1.0}),
        ("iterations", [1]),
    ],
)
def test_summary_of_another_form(pamela, own_world: Path, key: str, value: object) -> None:
    file = own_world / "runs/sine-a/summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    pamela("report", "sine-a", "--json").ok()
    assert "Its summary.json is damaged" in Page(file.with_name("report.html")).text


def test_odd_values_of_a_sound_summary(pamela, own_world: Path) -> None:
    file = own_world / "runs/sine-a/summary.json"
    summary = json.loads(file.read_text())
    summary["test"] |= {"mse": None, "ci95": None, "mse_per_step": [None, 1e99, "x", -1]}
    file.write_text(json.dumps(summary))
    pamela("report", "sine-a").ok()
    page = Page(file.with_name("report.html"))
    assert page.value("The checkpoint", "test") == "not finite"
    assert [row[2] for row in page.table("Mean MSE")[1:]] == ["not finite", "1e+99", "not finite", "−1.0000"]


def test_odd_lines_of_metrics(pamela, own_world: Path) -> None:
    file = own_world / "runs/sine-a/metrics.jsonl"
    odd = [
        {"step": 1e300, "mse": 1},
        {"step": 5, "mse": "x"},
        {"step": "x", "mse": 1},
        {"step": 7, "val_mse": 1},
        3,
    ]
    odd += [
        {"step": -1, "mse": 1},
        {"step": 8, "mse": float("inf")},
        {"step": 9, "mse": -1.0},
        [],
        {"mse": 2},
    ]
    file.write_text(file.read_text() + "".join(json.dumps(line) + "\n" for line in odd))
    pamela("report", "sine-a").ok()
    assert len(Page(file.with_name("report.html")).images) == 3


def test_checkpoint_of_other_settings(pamela, own_world: Path) -> None:
    run = own_world / "runs/sine-a"
    shutil.copy(own_world / "runs/tiny-a/best.safetensors", run / "best.safetensors")
    pamela("report", "sine-a").ok()
    page = Page(run / "report.html")
    assert "The figure “trends” could not be drawn: it does not fit the run's settings" in page.text


def test_links_are_not_followed(pamela, own_world: Path) -> None:
    """A folder from elsewhere neither takes private files into the page nor makes us write over others."""
    figures = own_world / "runs/sine-a/figures"
    secret = own_world / "secret.png"
    Image.new("RGB", (30, 30)).save(secret)
    (own_world / "secret.csv").write_text("secret")
    before = secret.read_bytes()
    for name in ("training.png", "private.png"):
        (figures / name).unlink(missing_ok=True)
        (figures / name).symlink_to(secret)
    shutil.copy(secret, figures / "half.png")
    (figures / "half.csv").symlink_to(own_world / "secret.csv")
    pamela("report", "sine-a").ok()
    page = Page(figures.parent / "report.html")
    assert len(page.images) == 3
    assert before not in page.images
    assert secret.read_bytes() == before
    assert not (figures / "training.png").is_symlink()


def test_folder_of_figures_that_is_a_link(pamela, own_world: Path) -> None:
    figures = own_world / "runs/sine-a/figures"
    figures.rename(own_world / "elsewhere")
    figures.symlink_to(own_world / "elsewhere")
    before = snapshot(own_world / "elsewhere")
    pamela("report", "sine-a").ok()
    assert len(Page(figures.parent / "report.html").images) == 3
    assert snapshot(own_world / "elsewhere") == before


def test_what_is_no_picture_is_passed_over(pamela, own_world: Path) -> None:
    figures = own_world / "runs/sine-a/figures"
    (figures / "text.png").write_text("<script>alert(1)</script>")
    (figures / "short.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (figures / "folder.png").mkdir()
    pamela("report", "sine-a").ok()
    assert len(Page(figures.parent / "report.html").images) == 3


# The page itself -------------------------------------------------------------------------------------


def test_everything_of_a_page_is_escaped(tmp_path: Path) -> None:
    blocks = [Note(MARKUP), Note(MARKUP, pressing=True), Table(MARKUP, [MARKUP], [[MARKUP]])]
    (tmp_path / "x.html").write_text(to_html(Content(MARKUP, MARKUP, [Section(MARKUP, blocks)], MARKUP)))
    page = Page(tmp_path / "x.html")
    page.assert_alone()
    assert page.text.count(MARKUP) == 10


def test_texts_that_cannot_be_shown() -> None:
    assert printable("a\x00b\x1bc\udcffd\u202ee\tθ\n") == "a\ufffdb\ufffdc\ufffdd\ufffde\tθ\n"
    assert on_one_line("one\ntwo", 48) == "one two"
    assert on_one_line("x" * 60, 48) == "x" * 47 + "…"
