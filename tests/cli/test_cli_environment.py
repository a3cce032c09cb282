"""environment.json: what a run was computed on."""

from __future__ import annotations

import json
import os
import platform
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_names import names_of_here
from cli_support import SINE, Job, lines_in

import pamela_cli
from pamela_cli import environment, session
from pamela_cli.engine.compiled import compiler_version
from pamela_cli.runs import RunFolder

QUICK = ["meta-train", *SINE, "--iterations", "10", "--val-every", "5", "-q"]


def entries(run: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((run / "environment.json").read_text())
    return found


def test_entry(world: Path) -> None:
    run = RunFolder(world / "runs" / "sine-a")
    (entry,) = entries(run.path)
    started = datetime.fromisoformat(str(entry.pop("started")))
    assert started.utcoffset() == timedelta(0)
    assert datetime.now(UTC) - timedelta(days=1) < started <= datetime.now(UTC)
    assert entry == {
        "from_step": 0,
        "pamela": pamela_cli.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cuda": torch.version.cuda,
        "cudnn": environment.current_environment(torch.device("cpu"))["cudnn"],
        "platform": platform.platform(),
        "code": entry["code"],
        "cpu": entry["cpu"],
        "cpu_type": entry["cpu_type"],
        "cores": entry["cores"],
        "compiler": compiler_version(),
        "gpu": None,
        "plan": {"kept_updates": None, **run.read_config()[1]["plan"]},
    }
    assert 1 <= int(str(entry["cores"])) <= (os.cpu_count() or 1)
    assert re.fullmatch("[0-9a-f]{12}", str(entry["code"]))


def test_nobody_is_named(world: Path) -> None:
    node = platform.node()
    assert not [path for path in (world / "runs").rglob("*") if node and node in path.name]
    text = (world / "runs" / "sine-a" / "environment.json").read_text()
    values = [str(value) for value in entries(world / "runs" / "sine-a")[0].values()]
    assert str(world) not in text
    assert str(Path.home()) not in text or Path.home() == Path("/")
    for name in names_of_here():
        assert not [value for value in values if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", value)]


def test_resumption_adds_an_entry(warm, here: Path) -> None:
    run = here / "runs" / "x"
    long = ["meta-train", *SINE, "--iterations", "100000", "--val-every", "100000", "--run", "x"]
    job: Job = warm.start(here, *long)
    job.when(lambda: lines_in(run / "metrics.jsonl") > 2).send(2)
    assert job.wait().code == 130
    first = entries(run)
    assert [entry["from_step"] for entry in first] == [0]
    again: Job = warm.start(here, *long[:1], "--run", "x", "--resume")
    again.when(lambda: len(entries(run)) > 1).send(2)
    again.wait()
    second = entries(run)
    assert second[0] == first[0]
    assert second[1]["from_step"] == int(
        re.search(r"step ([\d,]+)", job.wait().err).group(1).replace(",", "")
    )


def test_finished_run_is_left_alone(pamela, own_world: Path) -> None:
    before = (own_world / "runs/sine-a/environment.json").read_bytes()
    pamela("meta-train", "--run", "sine-a", "--resume").ok()
    assert (own_world / "runs/sine-a/environment.json").read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b"{", b"3", b"\xff", b'[1, {"from_step": 7}]'])
def test_damaged_file_stops_nothing(pamela, own_world: Path, content: bytes | None) -> None:
    run = own_world / "runs" / "sine-a"
    (run / "summary.json").unlink()  # so that there is something to go on with
    (run / "environment.json").unlink()
    if content is not None:
        (run / "environment.json").write_bytes(content)
    pamela("meta-train", "--run", "sine-a", "--resume", "--no-figures", "-q").ok()
    found = entries(run)
    assert found[-1]["from_step"] == 40
    assert [entry["from_step"] for entry in found[:-1]] == ([7] if content and b"7" in content else [])


def test_file_that_cannot_be_written_is_said_and_stops_nothing(pamela, own_world: Path) -> None:
    run = own_world / "runs" / "sine-a"
    (run / "summary.json").unlink()
    (run / "environment.json").unlink()
    (run / "environment.json").mkdir()
    result = pamela("meta-train", "--run", "sine-a", "--resume", "--no-figures").ok()
    assert "warning: runs/sine-a/environment.json could not be written" in result.err
    assert (run / "summary.json").exists()


def test_compiled_functions_that_are_not_there(pamela, own_world: Path, monkeypatch) -> None:
    """The plan of config.toml keeps asking for them; that they were not used is told."""
    run = own_world / "runs" / "tiny-a"
    (run / "summary.json").unlink()
    config = run / "config.toml"
    config.write_text(config.read_text().replace("compiled = false", "compiled = true"))
    monkeypatch.setattr(session, "can_be_compiled", lambda device: False)
    monkeypatch.setattr(environment, "can_be_compiled", lambda device: False)
    pamela("meta-train", "--run", "tiny-a", "--resume", "--no-figures", "-q").ok()
    assert entries(run)[-1]["plan"]["compiled"] is False
    assert RunFolder(run).read_config()[1]["plan"]["compiled"] is True


def test_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    entry = environment.current_environment(torch.device("cuda:1"))
    assert (entry["cuda"], entry["cudnn"], entry["gpu"]) == ("12.8", "9.10.2", "GPU of cuda:1")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 8905)
    assert environment.current_environment(torch.device("cpu"))["cudnn"] == "8.9.5"


def test_cudnn_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def version() -> int:
        raise RuntimeError("cuDNN version incompatibility")

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.backends.cudnn, "version", version)
    assert environment.current_environment(torch.device("cpu"))["cudnn"] is None


@pytest.mark.parametrize(
    ("text", "cpu"),
    [
        ("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n", "Some CPU @ 3 GHz"),
        ("CPU implementer\t: 0x41\n", "arm"),
    ],
)
def test_processor(monkeypatch: pytest.MonkeyPatch, text: str, cpu: str) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, **options: text)
    monkeypatch.setattr(environment.sys, "platform", "linux")
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert environment.current_environment(torch.device("cpu"))["cpu"] == cpu


def test_reading_a_folder_without_the_file(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).environment() == []
