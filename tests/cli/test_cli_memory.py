"""Memory that runs out during training: less is done at a time, and the result says so."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from cli_support import QUICK_TINY, assert_same_run, nameless_summary, write_tiny_store

from pamela_cli.engine.backbones import Conv4


def test_the_run_goes_on_with_less_and_says_so(
    pamela, quick: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_store(here / "data" / "tiny.h5")
    calls = 0
    network = Conv4.loss_gradient

    def once_too_large(self, *arguments, **options):
        nonlocal calls
        calls += 1
        if calls == 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        return network(self, *arguments, **options)

    monkeypatch.setattr(Conv4, "loss_gradient", once_too_large)
    result = pamela(*QUICK_TINY, "--run", "short", "--json").ok()
    (lowered,) = result.document["lowered"]
    assert lowered["step"] == 1
    assert "step 1: memory ran out; going on with" in result.err
    plan = tomllib.loads((here / "runs" / "short" / "config.toml").read_text())["plan"]
    assert {key: lowered[key] for key in plan} == plan
    short = nameless_summary(here / "runs" / "short")
    del short["lowered"]
    # On the CPU the plan's workers and the graphs kept leave the bits alone.
    assert short == nameless_summary(quick / "runs" / "tiny")


def test_what_never_fits_ends_in_one_sentence(pamela, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_store(here / "data" / "tiny.h5")

    def too_large(self, objective, theta, x, y, differentiable):
        if x.is_meta:
            return network(self, objective, theta, x, y, differentiable)
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")

    network = Conv4.loss_gradient
    monkeypatch.setattr(Conv4, "loss_gradient", too_large)
    pamela(*QUICK_TINY, "-q").error(1, "a single task does not fit", "lower --way, --shot")


def test_low_memory_gives_the_same_bits(pamela, quick: Path, here: Path) -> None:
    write_tiny_store(here / "data" / "tiny.h5")
    usual = quick / "runs" / "tiny"
    pamela(*QUICK_TINY, "--run", "low", "--low-memory", "-q").ok()
    assert_same_run(here / "runs" / "low", usual)
    plans = [
        tomllib.loads((run / "config.toml").read_text())["plan"] for run in (usual, here / "runs" / "low")
    ]
    assert plans[1] == plans[0] | {"kept_updates": 0}
    resumed = pamela("meta-train", "--run", "low", "--resume", "--low-memory")
    resumed.error(2, "leave out --low-memory")
