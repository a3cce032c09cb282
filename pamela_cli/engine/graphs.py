"""Work that consists of the same operations each time, recorded as a CUDA graph and replayed from then on.

An outer step, or a batch of an evaluation, is hundreds to thousands of small operations. If images are
small, the host takes longer to launch them one by one than a GPU takes to execute them; a graph launches
all of them at once.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from data_prep.errors import first_line
from pamela_cli.engine.kernels.beside import beside

Tensors = tuple[Tensor, ...]
Work = Callable[..., Tensors]

USUAL_TIMES = 3
"""Work is recorded after so many ordinary runs; recording what runs once or twice would not pay."""

SAME = 1e-3
"""Largest relative difference of what is replayed from what is computed; the kernels are the same."""


def times_until_recorded(device: torch.device) -> int:
    """How often work must be done on ``device`` until it is as fast as it gets: the length of a warm-up."""
    return USUAL_TIMES + 2 if device.type == "cuda" else 1


class Graphs:
    """The recorded work of a device, of one kind: ``what``, for people.

    On a CPU, or with ``PAMELA_GRAPHS=0``, everything is computed as usual. The same holds if cuDNN may use
    algorithms that give different bits each time, since what is recorded is compared with the usual
    computation, on other inputs, before it is trusted. ``wanted`` is off where there are none from the start;
    ``refused`` is a sentence that says why there are none any more, once one was wrong or could not be
    recorded. A replay may differ by ``same`` of the length of what was computed. ``memory`` is shared by all
    that are given the same one, and replayed one after another.
    """

    def __init__(
        self,
        device: torch.device,
        what: str = "computing",
        same: float = SAME,
        memory: GraphMemory | None = None,
    ) -> None:
        self.what = what
        self.refused: str | None = None
        self.device = device
        self.wanted = device.type == "cuda" and os.environ.get("PAMELA_GRAPHS") != "0"
        self._times: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, RecordedWork] = {}
        self._trusted: set[Hashable] = set()
        self._same = same
        self._memory = memory or GraphMemory()
        self._made_room = False

    @property
    def in_use(self) -> bool:
        """Whether what is called often enough is recorded."""
        return self.wanted and self.refused is None and torch.backends.cudnn.deterministic

    def call(self, same: Hashable, work: Work, *inputs: Tensor) -> Tensors:
        """``work(*inputs)``, which the caller may keep.

        The work must be a function of the inputs alone, with the same operations for inputs of the same
        shapes whenever ``same`` is equal, and never wait for the device.
        """
        if not self.in_use:
            return work(*inputs)
        key = (same, tuple((t.shape, t.dtype) for t in inputs))
        if key in self._trusted:
            return self._recorded[key].replay(inputs)
        found = work(*inputs)
        self._times[key] += 1
        if self._times[key] >= USUAL_TIMES and all(bool(t.isfinite().all()) for t in found):
            try:
                self._prepare(key, work, inputs, found)
            except RuntimeError as error:  # of the driver, or memory that does not suffice for both
                beside.forget(self.device)
                self._refuse(_first_fault(error))
        return found

    def forget(self) -> bool:
        """Discard what is recorded, and free its memory; returns whether there was any."""
        held = bool(self._recorded)
        self._times.clear()
        self._trusted.clear()
        self._recorded.clear()
        # What others have recorded keeps its memory; what is given free must not be asked for again.
        self._memory.place = None
        return held

    def make_room(self) -> bool:
        """As :meth:`forget`, where memory ran out; the second time it is for good.

        Work that is done as usual beside its recording, as the first replay asks for, takes twice the memory.
        """
        held = self.forget()
        if held and self._made_room:
            self._refuse("there is not enough memory for them")
        self._made_room |= held
        return held

    def _prepare(self, key: Hashable, work: Work, inputs: Tensors, found: Tensors) -> None:
        """Record the work; or, the next time, check a replay against what was computed as usual."""
        if key not in self._recorded:
            self._recorded[key] = RecordedWork.of(work, inputs, self._memory.at(self.device))
            return
        replayed = self._recorded[key].replay(inputs)
        away = [_difference(one, other) for one, other in zip(replayed, found, strict=True)]
        wrong = [each for each in away if not each <= self._same]  # as NaN
        if wrong:
            self._refuse(f"a replay differed by {wrong[0]:.0e} from what was computed as usual")
        else:
            self._trusted.add(key)

    def _refuse(self, why: str) -> None:
        self.forget()
        self.refused = f"CUDA graphs cannot be used here for {self.what}, which takes longer: {why}"
        warnings.warn(self.refused, RuntimeWarning, stacklevel=2)


@dataclass(frozen=True)
class _Place:
    """Where all graphs are recorded, and the memory that they share: what one returns is copied at once."""

    device: torch.device
    stream: Any
    pool: Any

    @classmethod
    def on(cls, device: torch.device) -> _Place:
        with torch.cuda.device(device):
            return cls(device, torch.cuda.Stream(device), torch.cuda.graph_pool_handle())


@dataclass
class GraphMemory:
    """Where several :class:`Graphs` record, and the memory that they share."""

    place: _Place | None = None

    def at(self, device: torch.device) -> _Place:
        """The place, made when it is needed first."""
        self.place = self.place or _Place.on(device)
        return self.place


@dataclass(frozen=True)
class RecordedWork:
    """One piece of work as a graph: it reads ``inputs`` and writes ``outputs``, always the same memory."""

    work: Work
    graph: Any
    inputs: Tensors
    outputs: Tensors

    @classmethod
    def of(cls, work: Work, inputs: Tensors, place: _Place) -> RecordedWork:
        """Record ``work``; RuntimeError if that cannot be."""
        own = tuple(t.clone() for t in inputs)
        stream, usual = place.stream, torch.cuda.current_stream(place.device)
        graph = torch.cuda.CUDAGraph()
        stream.wait_stream(usual)
        try:
            # The outer one of the two contexts comes back to the usual stream if recording breaks off.
            with torch.cuda.device(place.device), torch.cuda.stream(stream):
                work(*own)  # the libraries prepare for this stream what they must not while it is recorded
                outputs = _record(graph, place, partial(work, *own))
        finally:  # before ``own`` is given free
            usual.wait_stream(stream)
        return cls(work, graph, own, outputs)

    def replay(self, inputs: Tensors) -> Tensors:
        """The outputs for ``inputs``; copies, since the next replay writes over them."""
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.graph.replay()
        return tuple(t.clone() for t in self.outputs)


def _record(graph: Any, place: _Place, work: Callable[[], Tensors]) -> Tensors:
    """Where the work's results will be after each replay."""
    try:
        # Other threads of this process, as NCCL's, may ask the device for something meanwhile.
        with torch.cuda.graph(graph, place.pool, place.stream, capture_error_mode="thread_local"):
            return work()
    except RuntimeError:
        # PyTorch itself goes on to take memory from there where the driver has ended the recording.
        with suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), place.pool)
        raise


def _difference(found: Tensor, expected: Tensor) -> float:
    """How far it is from what is expected, beside its length."""
    found, expected = found.double(), expected.double()  # classes are whole numbers
    scale = max(float(expected.norm()), torch.finfo(torch.float32).tiny)
    return float((found - expected).norm()) / scale


def _first_fault(error: BaseException) -> str:
    """What went wrong first: that recording could not be ended either is no news."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return first_line(error)
