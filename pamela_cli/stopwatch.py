"""Measures elapsed time, without pauses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Counts seconds between :meth:`start` and :meth:`stop`."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._counted = 0.0

    def start(self) -> None:
        """Run from now on."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Stand still from now on."""
        if self._since is not None:
            self._counted += time.perf_counter() - self._since
        self._since = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still during a block, and run on if it ran before."""
        running = self._since is not None
        self.stop()
        yield
        if running:
            self.start()

    def take(self) -> float:
        """The seconds counted since this was last asked."""
        with self.paused():
            counted, self._counted = self._counted, 0.0
        return counted
