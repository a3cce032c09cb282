"""Several processes for one command: joined through torchrun, or started here for several devices."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import IO

import torch
import torch.distributed as dist

from pamela_cli.children import python
from pamela_cli.context import Context
from pamela_cli.engine.device import NoSuchDeviceError, choose_device
from pamela_cli.engine.memory import keep_freed_memory
from pamela_cli.engine.processes import Processes, ProcessLostError, in_group, local_rank, neighbours
from pamela_cli.errors import PamelaError, Stopped, UsageError

_ADVICE = "a run continues from its last checkpoint with --resume."

_ENDING = 30.0
"""Seconds that started processes have for ending by themselves."""

_LAST_WORDS = 64 << 10
_HERE = "127.0.0.1"

_NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
"""What torchrun tells its workers in their environment."""


@contextmanager
def process_group(context: Context, device_name: str) -> Iterator[tuple[torch.device, Processes]]:
    """The device of this process, and the processes that it works with.

    ``device_name`` may be several names with commas between: then a process is started for each but the
    first, with the same arguments as this one. Those that do not lead say and write nothing.
    """
    for name in _NUMBERS:
        if not re.fullmatch("[0-9]*", os.environ.get(name, "")):
            raise UsageError(
                f"the environment variable {name} is '{os.environ[name]}', which is not a whole number."
            )
    names = device_name.split(",")
    if in_group() or len(names) == 1:
        device = _device_here(names)
        with _met(context, device) as processes:
            yield device, processes
        return
    devices = devices_of(device_name)
    if devices[0].type == "cuda" and len(set(devices)) < len(devices):
        raise UsageError(f"--device {device_name} names a device twice; name each once.")
    device = device_to_compute_on(names[0])
    with _started(names, context.arguments) as followers:
        try:
            with _met(context, device, partial(_look_after, followers)) as processes:
                yield device, processes
        except PamelaError as error:
            if isinstance(error.__cause__, ProcessLostError) and (lost := _lost(followers)):
                raise PamelaError(f"{lost}; {_ADVICE}") from error
            raise


def device_of(name: str) -> torch.device:
    """The device of ``--device``; wrong names and absent devices are wrong usage."""
    try:
        return choose_device(name, "--device")
    except NoSuchDeviceError as error:
        raise UsageError(f"{error}.") from error


def device_to_compute_on(name: str) -> torch.device:
    """The same for this process; on the CPU it keeps freed memory from now on, before it has more threads."""
    device = device_of(name)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def devices_of(names: str) -> list[torch.device]:
    """The devices of ``--device``, with commas between their names: of one kind, to round alike."""
    devices = [device_of(name) for name in names.split(",")]
    if len({device.type for device in devices}) > 1:
        raise UsageError(f"--device {names} names devices of several kinds; name devices of one kind.")
    return devices


def describe(device: torch.device) -> str:
    """The device for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


def check_enough(flag: str, count: int, processes: Processes) -> None:
    """:class:`UsageError` that names ``flag`` where there are too few tasks for so many processes."""
    if count < processes.size:
        raise UsageError(
            f"{flag} {count} is too small for {processes.size} processes, each of which "
            "needs at least one task."
        )


def _device_here(names: list[str]) -> torch.device:
    """Of several names, or several CUDA devices, the one with this process's number."""
    place = local_rank()
    if len(names) > 1:
        if len(names) < neighbours():
            raise UsageError(f"--device names {len(names)} devices, but there are {neighbours()} processes.")
        return device_to_compute_on(names[place])
    device = device_to_compute_on(names[0])
    return device_of(f"cuda:{place}") if place and device == torch.device("cuda", 0) else device


@contextmanager
def _met(
    context: Context, device: torch.device, look: Callable[[], None] = lambda: None
) -> Iterator[Processes]:
    """Stay connected to the others while the block runs."""
    finished = False
    try:
        processes = Processes.join(device, look)
        if not processes.leads:
            context.console.mute()
        yield processes
        finished = True
    except ProcessLostError as error:
        raise PamelaError(f"{error}; {_ADVICE}") from error
    finally:
        if dist.is_available() and dist.is_initialized():
            _part(waits=finished or device.type == "cpu")


def _part(waits: bool) -> None:
    """Disconnect: wait for the sums under way, or give them up.

    NCCL would also wait for sums in which a process that has ended never takes part.
    """
    if waits:
        dist.destroy_process_group()
        return
    with suppress(RuntimeError):  # each backend gives up in its own way, and not all can
        dist.distributed_c10d._abort_process_group()


@dataclass
class _Follower:
    rank: int
    device: str
    process: subprocess.Popen[bytes]
    said: IO[bytes]


@contextmanager
def _started(names: list[str], arguments: tuple[str, ...]) -> Iterator[list[_Follower]]:
    """Be the first of several processes on this machine; the others are there while the block runs."""
    # All meet at a port that is held from here on: one that was only looked up might be taken by then.
    # Each goes there as a worker of torchrun does, this process too, and nobody from another machine.
    door = socket.create_server((_HERE, 0))
    port = door.getsockname()[1]
    meeting = dist.TCPStore(  # type: ignore[attr-defined]
        _HERE, port, is_master=True, wait_for_workers=False, master_listen_fd=door.detach()
    )
    common = {"MASTER_ADDR": _HERE, "MASTER_PORT": str(meeting.port)}
    common |= {name: str(len(names)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    common |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    # Whatever interrupts the ending of one, the next one is ended, too.
    with ExitStack() as stack:
        followers = [
            stack.enter_context(_following(rank, name, arguments, _place(common, rank)))
            for rank, name in enumerate(names[1:], start=1)
        ]
        stack.enter_context(_environment(_place(common, 0)))
        yield followers
        _wait(followers)


@contextmanager
def _following(
    rank: int, device: str, arguments: tuple[str, ...], environment: dict[str, str]
) -> Iterator[_Follower]:
    """A process that works for this one while the block runs. It ends when its stdin does: with this one."""
    command = python("from pamela_cli.follower import follow; follow()", *arguments)
    # It has a second thread before it comes to `device_to_compute_on`.
    memory = {"MALLOC_ARENA_MAX": "1"} if device == "cpu" else {}
    with (
        tempfile.TemporaryFile() as said,  # not a pipe, which would fill
        subprocess.Popen(
            command,
            env={**os.environ, **environment, **memory},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
        ) as process,
    ):
        try:
            yield _Follower(rank, device, process, said)
        finally:
            process.kill()


def _place(common: dict[str, str], rank: int) -> dict[str, str]:
    return common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _look_after(followers: list[_Follower]) -> None:
    if any(each.process.poll() is not None for each in followers):
        raise ProcessLostError("a process that was started here has ended")


def _wait(followers: list[_Follower]) -> None:
    for each in followers:
        with suppress(subprocess.TimeoutExpired):
            each.process.wait(_ENDING)


def _lost(followers: list[_Follower]) -> str | None:
    """Which process failed first, and its last message."""
    _wait(followers)
    for each in followers:
        code = each.process.poll()
        if code:
            each.said.seek(max(0, each.said.seek(0, os.SEEK_END) - _LAST_WORDS))
            lines = each.said.read().decode(errors="replace").strip().splitlines()
            ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            why = lines[-1].removeprefix("error: ") if lines else ended
            return f"process {each.rank} on {each.device} failed: {why}"
    return None


class Followed(Stopped):
    """A process ends because the leader does, which says why."""

    def __init__(self, exit_code: int = 1) -> None:
        super().__init__(exit_code - 128, "")
