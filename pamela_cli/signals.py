"""Stopping on a signal: at once, or when the step in progress has ended."""

from __future__ import annotations

import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from pamela_cli.errors import Stopped

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a process to stop: Ctrl-C, the usual one, and that its terminal has gone."""


# Who is impatient, or wraps a command, may send the same request several times, and a terminal and torchrun
# both pass the same Ctrl-C on: those that follow within this time must not break into the saving and tidying
# up that the first has set off. In seconds.
SAME_REQUEST = 2.0

# Raised inside a finalizer or a callback, an exception ends there, and nobody hears of it. So often, in
# seconds, it is looked whether it still exists.
_LOOK_AGAIN = 0.5


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """While entered, one of ``STOPPING`` raises :class:`Stopped` wherever the program is.

    Temporary files are removed on the way out. One that was ignored when the process started stays ignored.
    """
    before = {number: signal.getsignal(number) for number in STOPPING}
    again = _Again()
    first: float | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if first is None or now - first > SAME_REQUEST or again.was_swallowed():
            first = first or now
            raise again.watched(stopped_by(number, "nothing is left half-written"))

    again.stop = stop
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    hook, sys.unraisablehook = sys.unraisablehook, _without_stopped(sys.unraisablehook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        again.end()
        for number, handler in before.items():
            signal.signal(number, handler)


def _without_stopped(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``hook``, silent on requests that a finalizer has swallowed: they are raised once more."""

    def report(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, Stopped):
            hook(unraisable)

    return report


class _Again:
    """Raises a request to stop once more where something has swallowed it; not on Windows, without timers."""

    def __init__(self) -> None:
        self.stop: Callable[[int, FrameType | None], None]
        self._raised: weakref.ref[Stopped] | None = None
        self._before: Any = None

    def watched(self, error: Stopped) -> Stopped:
        """The error, which is looked after from now on."""
        # No frame that raises it may have it in a variable: it would keep itself alive.
        self._raised = weakref.ref(error)
        if self._before is None and hasattr(signal, "setitimer"):
            self._before = signal.signal(signal.SIGALRM, self._look(error.exit_code - 128))
            signal.setitimer(signal.ITIMER_REAL, _LOOK_AGAIN, _LOOK_AGAIN)
        return error

    def was_swallowed(self) -> bool:
        """Whether it was raised and is no more."""
        return self._raised is not None and self._raised() is None

    def end(self) -> None:
        """Look no more."""
        if self._before is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)

    def _look(self, number: int) -> Callable[[int, FrameType | None], None]:
        def look(_: int, frame: FrameType | None) -> None:
            if self.was_swallowed():
                self.stop(number, frame)

        return look


def stopped_by(number: int, state: str) -> Stopped:
    """The request to stop that the signal is; ``state`` says what is left."""
    return Stopped(number, f"stopped by {signal.Signals(number).name}; {state}.")


class StopRequest:
    """While entered, the first of ``STOPPING`` is only noted; another one, later, stops at once.

    One that was ignored when the process started stays ignored.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._noted = 0.0
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.signal is not None

    def check(self, state: str) -> None:
        """Raise :class:`Stopped` if a signal was noted; ``state`` says what is left."""
        if self.signal is not None:
            raise stopped_by(self.signal, state)

    def __enter__(self) -> StopRequest:
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._noted = number, now
        elif now - self._noted > SAME_REQUEST:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
