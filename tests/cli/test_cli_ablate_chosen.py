"""`pamela ablate` of methods, intervals and settings that somebody chose."""

from __future__ import annotations

import json
from pathlib import Path

from cli_page import Page
from cli_support import SINE, TINY

SHORT = ["--iterations", "20", "--val-every", "10", "--no-figures", "-q", "--json"]


def test_only_the_methods_that_are_named(pamela, here: Path) -> None:
    chosen = ["--methods", "maml,fomaml,pamela", "--skip-interval", "2"]
    document = pamela("ablate", *SINE, *chosen, *SHORT).ok().document
    assert [row["label"] for row in document["rows"]] == ["MAML", "FOMAML", "+Q+P²"]
    assert all(row["status"] == "done" and row["gain"] is not None for row in document["rows"][1:])
    assert (document["methods"], document["skip_interval"]) == (["maml", "fomaml", "pamela"], 2)
    runs = {path.name for path in (here / "runs").iterdir()}
    assert runs == {"ablation-sine-10s", "maml-sine-10s-s0", "fomaml-sine-10s-s0", "pamela-sine-10s-s0-w2"}


def test_other_settings_get_a_folder_of_their_own(pamela, here: Path) -> None:
    grid = ["ablate", *SINE, "--methods", "maml", *SHORT]
    first = pamela(*grid).ok().document
    usual = here / "runs" / "ablation-sine-10s"
    before = (usual / "table.md").read_bytes()
    for _ in range(2):  # the same ones again are written where they were
        other = pamela(*grid, "--meta-lr", "0.01", "--inner-lr", "0.02").ok().document
        assert other["settings"] == first["settings"] | {"meta_lr": 0.01, "inner_lr": 0.02}
        assert (usual / "table.md").read_bytes() == before
        assert json.loads((here / "runs" / "ablation-sine-10s-2" / "ablation.json").read_text()) == other
    table = (here / "runs" / "ablation-sine-10s-2" / "table.md").read_text()
    assert "--inner-lr 0.02" in table and "--meta-lr 0.01" in table
    assert b"--meta-lr" not in before
    assert not (here / "runs" / "ablation-sine-10s-3").exists()


def test_a_run_that_was_validated_otherwise_is_named(pamela, here: Path) -> None:
    training = ["meta-train", *SINE, "--method", "maml", "--iterations", "20", "--no-figures", "-q"]
    pamela(*training, "--val-every", "20", "--run", "mine").ok()
    grid = ["ablate", *SINE, "--methods", "maml", "--iterations", "20", "--val-every", "10", "--no-figures"]
    said = pamela(*grid).ok().err
    assert "runs/mine is not taken for MAML, n = 5, seed 0, because of its --val-every 20" in said
    assert "is not taken for" not in pamela(*grid).ok().err


def test_an_interval_in_a_file_counts_as_on_the_command_line(pamela, here: Path) -> None:
    (here / "mine.toml").write_text("[inner]\nmethod = 'q'\nskip_interval = 2\nsteps = 4\n")
    chosen = ["--config", "mine.toml", "--methods", "maml,pamela"]
    document = pamela("ablate", *SINE, *chosen, *SHORT).ok().document
    assert [row["label"] for row in document["rows"]] == ["MAML", "+Q+P²"]
    assert document["skip_interval"] == 2
    document = pamela("ablate", *SINE, *chosen, "--vary", "skip-interval", *SHORT).ok().document
    assert [row["label"] for row in document["rows"]] == ["MAML", "+Q+P¹", "+Q+P²", "+Q+P³"]
    assert document["skip_interval"] is None


def test_figures_of_an_earlier_table_do_not_stay(pamela, here: Path) -> None:
    grid = ["ablate", *SINE, "--methods", "maml", *SHORT]
    pamela(*grid).ok()
    figures = here / "runs" / "ablation-sine-10s" / "figures"
    figures.mkdir()
    for name in ("dissection.png", "by-shot.csv", "my-own.png"):
        (figures / name).write_bytes(b"of another table")
    pamela(*grid).ok()
    assert len(list(figures.iterdir())) == 3  # of the same table
    pamela(*grid, "--seeds", "1").ok()
    assert [path.name for path in figures.iterdir()] == ["my-own.png"]


def test_a_page_says_which_seeds_the_rows_have(pamela, here: Path) -> None:
    grid = ["ablate", *SINE, *SHORT]
    pamela(*grid, "--methods", "maml,q", "--seeds", "0").ok()
    pamela(*grid, "--methods", "maml", "--seeds", "0,1", "--meta-lr", "0.001", "--table").ok()
    pamela("report", "ablation-sine-10s").ok()
    page = Page(here / "runs" / "ablation-sine-10s" / "report.html")
    header, *rows = page.table("Every row on the same 4 test tasks")
    assert [row[header.index("seeds")] for row in rows] == ["0, 1", "0"]
    assert "not all seeds in every row (gains are over the seeds that both rows have)" in page.text
    assert "--width 8" in page.captions[0]


def test_a_page_gives_switches_as_they_are_typed(pamela, own_world: Path) -> None:
    settings = ["--flip", "--methods", "maml", "--iterations", "2", "--val-every", "2", "--way", "3"]
    pamela("ablate", *TINY, *settings, "-q").ok()
    pamela("report", "ablation-tiny-3w1s").ok()
    caption = Page(own_world / "runs" / "ablation-tiny-3w1s" / "report.html").captions[0]
    assert "--flip," in caption
