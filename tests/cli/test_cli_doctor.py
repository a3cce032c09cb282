"""`pamela doctor`: what it shows, and what it finds wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from cli_names import names_of_here
from cli_support import write_tiny_store

from pamela_cli import doctor
from pamela_cli.engine.selftest import SelfTest


def test_what_it_shows(pamela, here: Path) -> None:
    write_tiny_store(here / "data" / "tiny.h5")
    document = pamela("doctor", "--json").ok().document
    assert document["problems"] == []
    (cpu,) = [each for each in document["devices"] if each["device"] == "cpu"]
    assert cpu["self_tests"] and all(test["right"] for test in cpu["self_tests"])
    (store,) = document["datasets"]
    assert store == {"store": "tiny.h5", "dataset": "made-up", "images": 360, "fault": None}
    assert [folder["folder"] for folder in document["folders"]] == ["data", "runs"]
    assert not (here / "runs").exists(), "it leaves nothing"
    shown = pamela("doctor").ok().out
    assert "tiny.h5" in shown and "No problems found." in shown


def test_nobody_is_named(pamela, here: Path) -> None:
    text = pamela("doctor", "--json").ok().out
    for name in (str(here), str(Path.home()), *(f'"{own}"' for own in names_of_here())):
        assert name == "/" or name not in text


def test_a_broken_store_is_a_problem(pamela, here: Path) -> None:
    (here / "data").mkdir()
    (here / "data" / "odd.h5").write_bytes(b"no store")
    result = pamela("doctor", "--json")
    assert result.code == 1
    (problem,) = result.document["problems"]
    assert "odd.h5" in problem


def test_an_engine_that_is_wrong(pamela, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = [SelfTest("Conv4, float64", "cpu", 0.5, False, 0.1)]
    monkeypatch.setattr(doctor, "self_tests", lambda device: tests)
    result = pamela("doctor")
    assert result.code == 1
    assert "problem: The engine gives wrong results on cpu: Conv4, float64 differs by 5.0e-01" in result.out


def test_a_device_that_does_not_work(pamela, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device):
        raise RuntimeError("no driver\nand more")

    monkeypatch.setattr(doctor, "self_tests", fail)
    result = pamela("doctor", "--json")
    assert result.code == 1
    assert result.document["problems"] == ["The engine cannot compute on cpu: no driver."]


def test_a_driver_that_does_not_work(pamela, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The devices are counted without it; a kernel's compiler may fail, too, with errors of its own."""

    def fail(*_: object) -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old.")

    def no_compiler(device: torch.device) -> list[SelfTest]:
        if device.type == "cuda":
            raise subprocess.CalledProcessError(1, "gcc")
        return []

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", fail)
    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    monkeypatch.setattr(doctor, "self_tests", no_compiler)
    document = pamela("doctor", "--json").document
    assert document["problems"] == [
        "The engine cannot compute on cuda:0: The NVIDIA driver on your system is too old."
    ]
    assert document["environment"]["gpu"] is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(doctor, "free_bytes", lambda device: None)
    (problem,) = pamela("doctor", "--json").document["problems"]
    assert problem.startswith("The engine cannot compute on cuda:0: Command 'gcc'")


def test_little_room(pamela, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LITTLE_DISK", 1 << 60)
    monkeypatch.setattr(doctor, "LITTLE_MEMORY", 1 << 60)
    problems = pamela("doctor", "--json").document["problems"]
    assert sum("MiB free" in problem for problem in problems) == 2
    assert sum("of memory free" in problem for problem in problems) == 1


def test_a_folder_that_cannot_be_written_to(pamela, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    result = pamela("doctor", "--json")
    assert "The folder for data, data, is not writable (Permission denied)." in result.document["problems"]


def test_without_a_compiler_wanted(warm, here: Path) -> None:
    """Who forbids compiled functions knows; who has no compiler is told."""
    assert warm(here, "doctor", "--json", env={"PAMELA_COMPILE": "0"}).ok().document["compiled"] is False
    result = warm(here, "doctor", "--json", env={"PATH": "/nowhere"})
    assert result.code == 1
    (problem,) = result.document["problems"]
    assert "no C compiler (cc) works here" in problem
