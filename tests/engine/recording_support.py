"""Graphs that record without a GPU.

A stand-in takes the graph's place. Like one, it always reads the same memory and writes the same memory, and
keeps whatever else it was recorded with.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pamela_cli.engine import graphs
from pamela_cli.engine.graphs import Graphs, RecordedWork


class StandIn:
    """What replays: the work on the memory that it was recorded with."""

    def __init__(self, work: graphs.Work, inputs: graphs.Tensors, outputs: graphs.Tensors) -> None:
        self._work, self._inputs, self._outputs = work, inputs, outputs
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        for own, found in zip(self._outputs, self._work(*self._inputs), strict=True):
            own.copy_(found)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[RecordedWork]:
    """All that is recorded from now on, by graphs that believe themselves on a GPU."""
    made: list[RecordedWork] = []

    def of(work: graphs.Work, inputs: graphs.Tensors, place: object) -> RecordedWork:
        own = tuple(t.clone() for t in inputs)
        outputs = tuple(torch.full_like(t, torch.nan if t.is_floating_point() else -1) for t in work(*own))
        made.append(RecordedWork(work, StandIn(work, own, outputs), own, outputs))
        return made[-1]

    monkeypatch.setattr(RecordedWork, "of", of)
    monkeypatch.setattr(graphs._Place, "on", lambda device: "there")
    monkeypatch.setattr(Graphs, "__init__", believing(Graphs.__init__))
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    return made


def believing(init: Callable[..., None]) -> Callable[..., None]:
    def begin(self: Graphs, *arguments: object, **named: object) -> None:
        init(self, *arguments, **named)
        self.wanted = True

    return begin
