"""Ctrl-C and SIGTERM where `prepare` waits for others: the command ends at once and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_support import PATIENCE, Job, Result, environment, snapshot

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
PROMPTLY = 4.0  # seconds: two, and two more for a machine that is busy

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals"),
    pytest.mark.parametrize("number", CODES),
]

HALF_A_FILE = b'HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nETag: "x"\r\n\r\n' + bytes(500_000)


@contextmanager
def stalling(answer: bytes) -> Iterator[tuple[str, threading.Event]]:
    """A server that sends `answer` to the first request, and then nothing; its address, and when it has."""
    said, over = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)
                said.set()
                over.wait(60)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", said
        finally:
            over.set()
            thread.join()


def stop(job: Job, number: int) -> Result:
    """Send a signal as someone impatient does."""
    start = time.monotonic()
    job.send(number)
    time.sleep(0.005)
    job.send(number)
    result = job.wait()
    assert time.monotonic() - start < PROMPTLY
    result.error(CODES[number], f"stopped by {signal.Signals(number).name}")
    return result


@pytest.mark.parametrize("answer", [b"", HALF_A_FILE], ids=["no answer", "half a file"])
def test_stopped_while_a_download_stalls(warm, here: Path, number: int, answer: bytes) -> None:
    with stalling(answer) as (address, said):
        command = ["prepare", "omniglot", "--mirror", address]
        job = warm.start(here, *command, env={"PAMELA_CACHE_DIR": str(here / "cache"), "NO_PROXY": "*"})
        job.when(said.is_set)
        part = here / "cache" / ".partial" / "omniglot-images_background.zip.part"
        if answer:
            job.when(part.exists)
        stop(job, number)
    kept = {"cache", "cache/.partial", "cache/.partial/omniglot-images_background.zip.lock"}
    if answer:  # what has come is for the next run to go on with
        kept |= {f"cache/.partial/{part.name}", f"cache/.partial/{part.name}.json"}
    assert snapshot(here).keys() == kept


def test_stopped_in_a_process_of_its_own(here: Path, number: int) -> None:
    """Nor does what still waits for bytes keep an interpreter from ending."""
    with stalling(HALF_A_FILE) as (address, said):
        process = subprocess.Popen(
            [sys.executable, "-m", "pamela_cli", "prepare", "omniglot", "--mirror", address],
            cwd=here,
            env=environment({"PAMELA_CACHE_DIR": str(here / "cache"), "NO_PROXY": "*"}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert said.wait(PATIENCE)
        process.send_signal(number)
        start = time.monotonic()
        out, err = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - start < PROMPTLY
    Result(process.returncode, out, err).error(CODES[number], f"stopped by {signal.Signals(number).name}")
    assert [path.name for path in here.iterdir()] == ["cache"]


@pytest.mark.skipif(sys.platform != "linux", reason="files that a process has open are seen in /proc")
def test_stopped_while_a_checksum_is_taken(warm, here: Path, number: int) -> None:
    archive = here / "cache" / "omniglot" / "images_background.zip"
    archive.parent.mkdir(parents=True)
    archive.touch()
    os.truncate(archive, 200 << 30)  # minutes to read, though nothing is on the disk
    job = warm.start(here, "prepare", "omniglot", "--offline", env={"PAMELA_CACHE_DIR": str(here / "cache")})
    job.when(lambda: str(archive) in open_files(job.process))
    stop(job, number)
    assert [path.name for path in here.iterdir()] == ["cache"]


SWALLOWED = """
import os, signal, time
from pamela_cli.errors import Stopped
from pamela_cli.signals import stopping_at_once

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        time.sleep(0)  # the signal is noticed here at the latest

try:
    with stopping_at_once():
        Finalized()
        print("it went on", flush=True)
        time.sleep({long})
except Stopped as error:
    print(error)
"""


def test_a_request_that_a_finalizer_swallowed_is_made_again(number: int) -> None:
    program = SWALLOWED.format(name=signal.Signals(number).name, long=PATIENCE)
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PROMPTLY, check=True
    )
    assert result.stderr == ""  # no traceback of what Python ignored
    first, second = result.stdout.splitlines()
    assert (first, second[:10]) == ("it went on", "stopped by")


def open_files(process: int) -> list[str]:
    """The files that a process has open."""
    found = []
    for handle in Path(f"/proc/{process}/fd").iterdir():
        try:
            found.append(str(handle.readlink()))
        except FileNotFoundError:  # closed in between
            continue
    return found
