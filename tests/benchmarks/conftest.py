"""The benchmarks at a tiny size, in this process: what they are for in earnest is for an idle machine."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import child, comparison, engines, machine, ours
from pamela_cli.engine import runner


class Here:
    """Calls functions in this process."""

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        child._loaded.clear()

    def wake(self, device: str) -> Future[None]:
        woken: Future[None] = Future()
        woken.set_result(child.wake(device))
        return woken

    def call(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, one process, a small matrix, no repeating; the allocator stays as it is."""
    monkeypatch.setattr(comparison, "Process", Here)
    monkeypatch.setattr("benchmarks.first_minute.Process", Here)
    monkeypatch.setattr(comparison, "SHORTEST", 0.0)
    monkeypatch.setattr(machine.MatrixRate.__init__, "__defaults__", (64,))
    for module in (engines, machine, runner):
        monkeypatch.setattr(module, "available_cores", lambda: 1)
    for module in (engines, ours, runner):
        monkeypatch.setattr(module, "keep_freed_memory", lambda: True)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results"
