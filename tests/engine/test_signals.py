"""Requests to stop that are noted."""

from __future__ import annotations

import signal
import sys
import time
import weakref
from collections.abc import Iterator

import pytest

from pamela_cli import signals
from pamela_cli.errors import Stopped
from pamela_cli.signals import SAME_REQUEST, STOPPING, StopRequest, stopping_at_once


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOPPING}
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


@pytest.mark.parametrize("number", STOPPING)
def test_each_of_them_is_noted(number: signal.Signals) -> None:
    signal.signal(number, signal.default_int_handler)
    with StopRequest() as stop:
        signal.raise_signal(number)
        with pytest.raises(Stopped, match=f"stopped by {number.name}") as caught:
            stop.check("all is saved")
    assert caught.value.exit_code == 128 + number


def test_those_that_follow_at_once_are_the_same_and_later_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who wraps a command passes on what it gets, and the saving that has begun must not break off."""
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with StopRequest() as stop:
        for seconds in (0.0, 0.1, SAME_REQUEST - 0.2):
            now[0] += seconds
            signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        now[0] += 0.2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_a_request_that_a_finalizer_swallows_is_raised_again_without_a_traceback(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Python reports what is raised within a weak reference's callback, and goes on."""

    class Held:
        pass

    hook = sys.unraisablehook
    with pytest.raises(Stopped), stopping_at_once():
        held = Held()
        reference = weakref.ref(held, lambda _: signal.raise_signal(signal.SIGINT))
        del held
        assert reference() is None
        time.sleep(10)
    assert capfd.readouterr().err == ""
    assert sys.unraisablehook is hook
