"""Several processes at one command: met through torchrun, or started here for several devices."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

import torch
import torch.distributed as dist

from pamela_cli.cli import Context
from pamela_cli.engine.device import NoSuchDeviceError, choose_device
from pamela_cli.engine.processes import Processes, ProcessLostError, in_company, local_rank, neighbours
from pamela_cli.errors import PamelaError, Stopped, UsageError

_ADVICE = "a run goes on from its last checkpoint by --resume."

_ENDING = 30.0
"""Seconds that started processes have for ending by themselves."""


@contextmanager
def company(context: Context, device_name: str) -> Iterator[tuple[torch.device, Processes]]:
    """The device of this process, and the processes that it works with.

    ``device_name`` may be several names with commas between: then a process is started for each but the
    first, with the same arguments as this one. Those that do not lead say and write nothing.
    """
    names = device_name.split(",")
    if in_company() or len(names) == 1:
        device = _device_here(names)
        with _met(context, device) as processes:
            yield device, processes
        return
    devices = [device_of(name) for name in names]
    if len({device.type for device in devices}) > 1:
        raise UsageError(f"--device {device_name} names devices of several kinds; name those of one.")
    if devices[0].type == "cuda" and len(set(devices)) < len(devices):
        raise UsageError(f"--device {device_name} names a device twice; name each once.")
    with _started(names, context.arguments) as followers:
        try:
            with _met(context, devices[0]) as processes:
                yield devices[0], processes
        except PamelaError as error:
            if isinstance(error.__cause__, ProcessLostError) and (lost := _lost(followers)):
                raise PamelaError(f"{lost}; {_ADVICE}") from error
            raise


def device_of(name: str) -> torch.device:
    """The device of ``--device``; wrong names and absent devices are wrong usage."""
    try:
        return choose_device(name)
    except NoSuchDeviceError as error:
        raise UsageError(f"{error}.") from error


def describe(device: torch.device) -> str:
    """The device for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


def check_enough(flag: str, count: int, processes: Processes) -> None:
    """:class:`UsageError` that names ``flag`` where there are too few tasks for so many processes."""
    if count < processes.size:
        raise UsageError(
            f"{flag} {count} is too small for {processes.size} processes, of which "
            "each takes a task at least."
        )


def _device_here(names: list[str]) -> torch.device:
    """Of several names, or several CUDA devices, the one with this process's number."""
    place = local_rank()
    if len(names) > 1:
        if len(names) < neighbours():
            raise UsageError(f"--device names {len(names)} devices, and there are {neighbours()} processes.")
        return device_of(names[place])
    device = device_of(names[0])
    return device_of(f"cuda:{place}") if place and device == torch.device("cuda", 0) else device


@contextmanager
def _met(context: Context, device: torch.device) -> Iterator[Processes]:
    """Be in touch with the others while the block runs."""
    try:
        processes = Processes.join(device)
        if not processes.leads:
            context.console.mute()
        yield processes
    except ProcessLostError as error:
        raise PamelaError(f"{error}; {_ADVICE}") from error
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


@dataclass
class _Follower:
    rank: int
    device: str
    process: subprocess.Popen[bytes]
    said: IO[bytes]


@contextmanager
def _started(names: list[str], arguments: tuple[str, ...]) -> Iterator[list[_Follower]]:
    """Be the first of several processes on this machine; the others are there while the block runs."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(len(names))}
    common |= {"LOCAL_WORLD_SIZE": str(len(names))}
    before = dict(os.environ)
    followers: list[_Follower] = []
    try:
        for rank, name in enumerate(names[1:], start=1):
            own = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            said = tempfile.TemporaryFile()  # noqa: SIM115  (closed below, with the process)
            process = subprocess.Popen(
                [sys.executable, "-m", "pamela_cli", *arguments],
                env=before | own,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
            followers.append(_Follower(rank, name, process, said))
        os.environ.update(common | {"RANK": "0", "LOCAL_RANK": "0"})
        yield followers
        _wait(followers)
    finally:
        for name in (*common, "RANK", "LOCAL_RANK"):
            os.environ.pop(name, None)
        os.environ.update(before)
        for each in followers:
            each.process.kill()
            each.process.wait()
            each.said.close()


def _wait(followers: list[_Follower]) -> None:
    for each in followers:
        with suppress(subprocess.TimeoutExpired):
            each.process.wait(_ENDING)


def _lost(followers: list[_Follower]) -> str | None:
    """Which process failed first, and what it has said last."""
    _wait(followers)
    for each in followers:
        code = each.process.poll()
        if code:
            each.said.seek(0)
            lines = each.said.read().decode(errors="replace").strip().splitlines()
            ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            why = lines[-1].removeprefix("error: ") if lines else ended
            return f"process {each.rank} on {each.device} failed: {why}"
    return None


class Followed(Stopped):
    """A process ends because the leader does, which says why."""

    def __init__(self, exit_code: int = 1) -> None:
        super().__init__(exit_code - 128, "")
