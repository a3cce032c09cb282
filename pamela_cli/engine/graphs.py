"""Work that is the same operations each time, recorded as a CUDA graph and replayed from then on.

An outer step is some thousands of small operations. Where images are small, the host takes longer to start
them one by one than a GPU takes to carry them out; a graph starts all of them at once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]
Work = Callable[..., Tensors]

USUAL_TIMES = 3
"""So often work is done as usual before it is recorded: what is done once or twice is not worth it."""

SAME = 1e-3
"""Largest relative difference of what is replayed from what was computed; the kernels are the same."""


def times_until_recorded(device: torch.device) -> int:
    """How often work must be done on ``device`` until it is as fast as it goes: what a warm-up takes."""
    return USUAL_TIMES + 1 if device.type == "cuda" else 1


class Graphs:
    """The recorded work of a device. On a CPU, or with ``PAMELA_GRAPHS=0``, all is done as usual.

    ``refused`` says why recording failed here, once it has; all is done as usual from then on.
    """

    def __init__(self, device: torch.device) -> None:
        self.refused: str | None = None
        self._device = device
        self._wanted = device.type == "cuda" and os.environ.get("PAMELA_GRAPHS") != "0"
        self._times: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, Recorded] = {}
        self._shared: Any = None

    def call(self, same: Hashable, work: Work, *inputs: Tensor) -> Tensors:
        """``work(*inputs)``, which the caller may keep.

        The work must be a function of the inputs alone, of the same operations for inputs of the same shapes
        wherever ``same`` is equal, and ask the device for nothing.
        """
        if not self._wanted or self.refused is not None:
            return work(*inputs)
        key = (same, tuple((t.shape, t.dtype) for t in inputs))
        if key in self._recorded:
            return self._recorded[key].replay(inputs)
        found = work(*inputs)
        self._times[key] += 1
        if self._times[key] >= USUAL_TIMES and all(bool(t.isfinite().all()) for t in found):
            self._record(key, work, inputs, found)
        return found

    def forget(self) -> None:
        """Give up what is recorded, and its memory."""
        self._times.clear()
        self._recorded.clear()
        self._shared = None

    def _pool(self) -> Any:
        """The memory that all graphs share: what one returns is copied before the next one is replayed."""
        if self._shared is None and self._device.type == "cuda":
            self._shared = torch.cuda.graph_pool_handle()
        return self._shared

    def _record(self, key: Hashable, work: Work, inputs: Tensors, expected: Tensors) -> None:
        try:
            recorded = Recorded.of(work, inputs, self._device, self._pool())
            away = max(map(_difference, recorded.replay(inputs), expected))
        except RuntimeError as error:  # of the driver, or memory that does not suffice for both
            self.refused = str(error).partition("\n")[0]
        else:
            self.refused = None if away <= SAME else f"a replay was {away:.0e} away from what it recorded"
            self._recorded[key] = recorded
        if self.refused is not None:
            self.forget()


@dataclass(frozen=True)
class Recorded:
    """One piece of work as a graph: it reads ``inputs`` and writes ``outputs``, always the same memory."""

    work: Work
    graph: Any
    inputs: Tensors
    outputs: Tensors

    @classmethod
    def of(cls, work: Work, inputs: Tensors, device: torch.device, pool: Any) -> Recorded:
        """Record ``work``, with memory from ``pool``; RuntimeError where that cannot be."""
        own = tuple(t.clone() for t in inputs)
        stream, usual = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        stream.wait_stream(usual)
        with torch.cuda.stream(stream):
            work(*own)  # the libraries prepare for this stream what they must not while it is recorded
        usual.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads of this process, as NCCL's, may ask the device for something meanwhile.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            outputs = work(*own)
        return cls(work, graph, own, outputs)

    def replay(self, inputs: Tensors) -> Tensors:
        """The outputs for ``inputs``; copies, since the next replay writes over them."""
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.graph.replay()
        return tuple(t.clone() for t in self.outputs)


def _difference(found: Tensor, expected: Tensor) -> float:
    """How far it is from what is expected, beside its length."""
    scale = max(float(expected.norm()), torch.finfo(expected.dtype).tiny)
    return float((found - expected).norm()) / scale
