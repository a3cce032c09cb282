"""Runs with and without compiled functions: what is recorded and said, and going on elsewhere."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from cli_support import QUICK_TINY, write_tiny_store

from pamela_cli.engine.compiled import compiler_version

pytestmark = pytest.mark.skipif(compiler_version() is None, reason="no C compiler")

WITHOUT = {"PAMELA_COMPILE": "0"}
SAID = "with compiled functions"


@pytest.fixture(autouse=True)
def store(here: Path) -> None:
    write_tiny_store(here / "data" / "tiny.h5")


def is_recorded(here: Path, run: str) -> bool:
    return bool(tomllib.loads((here / "runs" / run / "config.toml").read_text())["plan"]["compiled"])


def test_that_they_are_used_is_said_and_recorded(warm, here: Path) -> None:
    done = warm(here, *QUICK_TINY, "--run", "with").ok()
    assert SAID in done.err
    assert is_recorded(here, "with")
    without = warm(here, *QUICK_TINY, "--run", "without", env=WITHOUT).ok()
    assert SAID not in without.err
    assert not is_recorded(here, "without")


def test_a_run_goes_on_where_there_is_no_compiler(warm, here: Path) -> None:
    half = [*QUICK_TINY, "--run", "tiny"]
    whole = warm(here, *half).ok()
    assert "continues without" not in whole.err
    # As if it had been stopped after its first half.
    (here / "runs" / "tiny" / "summary.json").unlink()
    resumed = warm(here, "meta-train", "--run", "tiny", "--resume", "--no-figures", env=WITHOUT).ok()
    assert "it continues without them, and rounds differently" in resumed.err
