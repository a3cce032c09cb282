"""Work on a second stream, with stand-ins for CUDA's: what waits for what, and what is held for how long."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from pamela_cli.engine.kernels.beside import Beside

CUDA = torch.device("cuda", 0)


class Stream:
    """Writes down what it is told."""

    def __init__(self, name: str, said: list[str]) -> None:
        self.name, self.said = name, said

    def wait_stream(self, other: Stream) -> None:
        self.said.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    at = [Stream("main", found)]

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        at.append(stream)
        yield
        at.pop()

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side", found))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: at[-1])
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: found.append("all wait"))
    monkeypatch.setattr(Stream, "work", lambda self: found.append(f"work on {at[-1].name}"), raising=False)
    return found


def test_each_waits_for_the_other(said: list[str]) -> None:
    beside, stream = Beside(), Stream("any", said)
    beside.run(stream.work, CUDA)
    beside.run(stream.work, CUDA)
    beside.join(CUDA)
    one = ["side waits for main", "work on side"]
    assert said == [*one, *one, "main waits for side"]
    beside.join(CUDA)  # there is nothing to wait for
    assert len(said) == 5


@pytest.mark.parametrize("end", ["join", "forget"])
def test_what_is_read_is_held_until_then(said: list[str], end: str) -> None:
    beside, read = Beside(), torch.ones(3)
    alive = weakref.ref(read)
    beside.run(lambda: None, CUDA, [(read,)])
    del read
    gc.collect()
    assert alive() is not None
    getattr(beside, end)(CUDA)
    gc.collect()
    assert alive() is None
    assert said[-1] == ("main waits for side" if end == "join" else "all wait")


def test_without_streams_it_is_done_at_once() -> None:
    done: list[int] = []
    beside = Beside()
    beside.run(lambda: done.append(1), torch.device("cpu"))
    beside.join(torch.device("cpu"))
    beside.forget(torch.device("cpu"))
    assert done == [1]


def test_each_device_is_waited_for_by_itself(said: list[str]) -> None:
    beside, other = Beside(), torch.device("cuda", 1)
    read = [torch.ones(3), torch.ones(3)]
    alive = [weakref.ref(each) for each in read]
    beside.run(lambda: None, CUDA, read[0])
    beside.run(lambda: None, other, read[1])
    del read
    beside.join(other)
    gc.collect()
    assert [each() is not None for each in alive] == [True, False]
    said.clear()
    beside.join(CUDA)
    assert said == ["main waits for side"]
    assert alive[0]() is None
