"""Stopping when asked: Ctrl-C and SIGTERM let the step in progress end, then the run is saved."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from pamela_cli.errors import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While entered, the first SIGINT or SIGTERM is only noted; a second one ends the process as usual."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.signal is not None

    def check(self, state: str) -> None:
        """Raise :class:`Stopped` if a signal was noted; ``state`` says what is left."""
        if self.signal is not None:
            raise Stopped(self.signal, f"stopped by {signal.Signals(self.signal).name}; {state}.")

    def __enter__(self) -> StopRequest:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
