"""`pamela ablate` of methods, intervals and settings that somebody chose."""

from __future__ import annotations

import json
from pathlib import Path

from cli_support import SINE

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
