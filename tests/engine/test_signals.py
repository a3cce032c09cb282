"""Requests to stop that are noted."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from pamela_cli.signals import StopRequest


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_one_is_noted_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop
        signal.raise_signal(signal.SIGTERM)
        assert stop and stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_that_was_ignored_stays_ignored() -> None:
    """As those of a shell's background jobs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert not stop
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
