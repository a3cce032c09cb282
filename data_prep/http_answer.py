"""Answers of HTTP servers, read by a thread of their own, so that no wait for the network is endless.

A thread that looks up a name or waits for bytes cannot react to anything else, neither Ctrl-C nor a timeout.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Self

import requests

_BLOCK = 1 << 16
_WAITING = 16  # blocks at most that are read and not taken yet

# A server that sends less than 64 KiB in a minute, about 1 kB/s, may send a byte now and then, which keeps
# the connection alive: at that rate the smallest dataset would take hours.
LEAST_BYTES = 1 << 16
PATIENCE = 60.0


class Stalled(Exception):
    """The server sends nothing, or next to nothing; says which in a few words."""


class Answer:
    """What a server answers; a context manager.

    `response` has status and headers, once `wait` has returned. Errors are those of requests and urllib3, and
    Stalled if less than LEAST_BYTES have come in `patience` seconds.
    """

    response: requests.Response

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float, patience: float) -> None:
        self._patience = patience
        self._queue: Queue[requests.Response | bytes | Exception] = Queue(_WAITING)
        self._left = Event()
        # A daemon: one that hangs does not keep the process from ending.
        self._reader = Thread(target=self._read, args=(url, headers, timeout), daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        # Whatever waits for bytes must stop waiting; urllib3 has this from 2.3 on.
        with suppress(AttributeError, OSError, RuntimeError, ValueError):
            self.response.raw.shutdown()

    def wait(self) -> requests.Response:
        """Wait for status and headers."""
        item = self._next(time.monotonic() + self._patience, "the server does not answer")
        assert isinstance(item, requests.Response)
        self.response = item
        return item

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes of the answer as they come."""
        deadline, count = time.monotonic() + self._patience, 0
        while block := self._next(deadline, "the server sends next to nothing"):
            assert isinstance(block, bytes)
            yield block
            count += len(block)
            if count >= LEAST_BYTES:
                deadline, count = time.monotonic() + self._patience, 0

    def _next(self, deadline: float, fault: str) -> requests.Response | bytes:
        try:
            item = self._queue.get(timeout=max(deadline - time.monotonic(), 0.001))
        except Empty:
            raise Stalled(fault) from None
        if isinstance(item, Exception):
            raise item
        return item

    def _read(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        """Ask, and pass on the answer: the response, its bytes in blocks, and no bytes at the end."""
        try:
            with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
                self._pass_on(response)
                for block in response.raw.stream(_BLOCK, decode_content=False):
                    self._pass_on(block)
                    if self._left.is_set():
                        return
            self._pass_on(b"")
        except Exception as error:
            self._pass_on(error)

    def _pass_on(self, item: requests.Response | bytes | Exception) -> None:
        while not self._left.is_set():
            with suppress(Full):
                self._queue.put(item, timeout=0.5)
                return
