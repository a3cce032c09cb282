"""Work on a second stream: filling gradients of weights, which nothing waits for until the end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch


class Beside(threading.local):
    """A second stream of each device, and what the work on it still reads; each thread has its own.

    Where tensors are small, one kernel does not fill a GPU: two run at once.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._read: dict[torch.device, list[object]] = {}

    def run(self, work: Callable[[], None], device: torch.device, *read: object) -> None:
        """Do ``work`` after all that the current stream has been told so far, beside what it is told next.

        ``read`` holds the tensors that the work reads or fills: their memory is not given away before
        :meth:`join`.
        """
        if device.type != "cuda":  # Triton's interpreter, which has no streams
            work()
            return
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        stream = self._streams[device]
        self._read.setdefault(device, []).append(read)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            work()

    def join(self, device: torch.device) -> None:
        """What the current stream is told from now on comes after all that was run."""
        if self._read.get(device):
            torch.cuda.current_stream(device).wait_stream(self._streams[device])
            self._read[device].clear()

    def forget(self, device: torch.device) -> None:
        """Where work broke off, as without memory: let it end, and give free what it read."""
        if self._read.get(device):
            torch.cuda.synchronize(device)
            self._read[device].clear()


beside = Beside()
