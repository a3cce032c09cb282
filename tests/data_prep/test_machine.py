"""What this process may use of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data_prep import machine
from data_prep.machine import available_cores, control_groups


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups job/task in a folder, on a machine of 16 cores."""
    monkeypatch.setattr(machine, "_GROUPS", tmp_path)
    monkeypatch.setattr(machine, "_OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    (tmp_path / "own").write_text("4:memory:/other\n0::/job/task\n")
    (tmp_path / "job" / "task").mkdir(parents=True)
    return tmp_path


def test_groups_above_count_too(groups: Path) -> None:
    assert control_groups() == [groups / "job/task", groups / "job", groups]


@pytest.mark.parametrize("own", ["0::/\n", "1:name=systemd:/x\n0::/"])
def test_a_container_sees_its_own_group_as_the_root(groups: Path, own: str) -> None:
    (groups / "own").write_text(own)
    assert control_groups() == [groups]


@pytest.mark.parametrize("own", ["", "9:cpuset:/\n", None])
def test_no_groups_of_version_2(groups: Path, own: str | None) -> None:
    (groups / "own").unlink() if own is None else (groups / "own").write_text(own)
    assert control_groups() == []
    assert available_cores() == 16


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("1000 100000\n", 1),
        ("max 100000\n", 16),
        ("9999999 100000\n", 16),
        ("\n", 16),
        ("1 0\n", 16),
        (None, 16),
    ],
)
@pytest.mark.parametrize("group", ["", "job", "job/task"])
def test_cores_that_a_container_or_a_scheduler_grants(
    groups: Path, group: str, quota: str | None, cores: int
) -> None:
    if quota is not None:
        (groups / group / "cpu.max").write_text(quota)
    assert available_cores() == cores


def test_the_least_quota_counts(groups: Path) -> None:
    (groups / "job/cpu.max").write_text("300000 100000")
    (groups / "job/task/cpu.max").write_text("800000 100000")
    assert available_cores() == 3


@pytest.mark.parametrize(
    ("told", "cores"),
    [("3", 3), ("1", 1), ("99", 16), ("4,2", 4), ("0", 16), ("", 16), ("-2", 16), ("x", 16), ("9" * 99, 16)],
)
def test_the_user_may_want_fewer(
    groups: Path, monkeypatch: pytest.MonkeyPatch, told: str, cores: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert available_cores() == cores
    (groups / "job/cpu.max").write_text("200000 100000")
    assert available_cores() == min(cores, 2)


def test_what_torchrun_sets_is_not_the_users_wish(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert available_cores() == 16


def test_this_machine_has_a_core() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
