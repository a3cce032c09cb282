"""Several processes working together: which takes which tasks, and sums over all of them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from data_prep.errors import first_line

PATIENCE = timedelta(minutes=30)
"""How long a process waits for one that says nothing. One that has ended is noticed at once."""


# Seconds between two looks at who has come.
_LOOK_AGAIN = 0.05

_STDOUT = 1


class ProcessLostError(Exception):
    """Another of the processes has ended, or does not answer: one sentence."""


@dataclass(frozen=True)
class Processes:
    """This process among ``size`` of them, numbered from 0; alone by default."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: torch.device, look: Callable[[], None] = lambda: None) -> Processes:
        """Meet the others, if the environment names them as torchrun does; otherwise this one is alone.

        The first one calls ``look`` while it waits, which may raise: where others may end before they come.
        """
        if not in_group():
            return cls()
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with _naming_losses():
            found, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))  # type: ignore[attr-defined]
            # Where torchrun has restarted everything, what was said the time before does not count.
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            store = dist.PrefixStore(f"pamela/{attempt}", found)  # type: ignore[attr-defined]
            _await_all(store, rank, size, look)
            with _silent():
                dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
        return cls(rank, size)

    @property
    def leads(self) -> bool:
        """Whether it is the one that speaks and writes."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of ``count`` tasks are this process's: a block, as long as the others' or one longer."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Each tensor summed over the processes, by one all-reduce; all get the same bits."""
        if self.size == 1:
            return list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _naming_losses():
            dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def placed(self, values: Tensor, count: int) -> Tensor:
        """This process's values, with zeros in place of the others': summed, they give all, (count, …)."""
        if self.size == 1:
            return values
        share = self.share(count)
        out = values.new_zeros(count, *values.shape[1:])
        out[share.start : share.stop] = values
        return out

    def largest(self, value: int) -> int:
        """The largest value of all processes; each must call this, and waits for the others."""
        if self.size == 1:
            return value
        found = torch.tensor([value])
        with _naming_losses():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def from_leader(self, value: Any) -> Any:
        """What the leader passes, in every process: JSON values."""
        if self.size == 1:
            return value
        text = json.dumps(value).encode() if self.leads else b""
        with _naming_losses():
            length = torch.tensor([len(text)])
            dist.broadcast(length, 0)
            data = torch.zeros(int(length), dtype=torch.uint8)
            if self.leads:
                data.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
            dist.broadcast(data, 0)
        return json.loads(bytes(data.tolist()))


def in_group() -> bool:
    """Whether torchrun's environment is set, for more than one process."""
    known = all(name in os.environ for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"))
    return known and os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ["LOCAL_RANK"]) if in_group() else 0


def neighbours() -> int:
    """How many processes share this machine with this one, itself included."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])) if in_group() else 1


def _await_all(store: Any, rank: int, size: int, look: Callable[[], None]) -> None:
    """Let the first one know of this process; the first one waits for all.

    It does so here, since PyTorch's own wait heeds neither signals nor processes that have ended.
    """
    store.set(f"here/{rank}", "")
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while rank == 0 and not store.check([f"here/{other}" for other in range(size)]):
        look()
        if time.monotonic() > deadline:
            raise ProcessLostError("not all processes of this command have started")
        time.sleep(_LOOK_AGAIN)


@contextmanager
def _silent() -> Iterator[None]:
    """Lead the standard output nowhere: the gloo of PyTorch 2.9 says there whom it met, amid our results."""
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        kept = os.dup(_STDOUT)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, _STDOUT)
        yield
    finally:
        os.dup2(kept, _STDOUT)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _naming_losses() -> Iterator[None]:
    try:
        yield
    # Distributed errors of PyTorch and gloo are RuntimeErrors, those of reading the environment ValueErrors.
    except (RuntimeError, ValueError) as error:
        reason = first_line(error)[:200]
        raise ProcessLostError(
            f"another process of this command has ended, or cannot be reached ({reason})"
        ) from error
