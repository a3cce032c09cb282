"""One file from a server on 127.0.0.1 that cuts, stalls, redirects and lies."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loopback import DATA, MD5, Script, files_of

from data_prep import DataError
from data_prep.download import DownloadOptions, fetch

pytestmark = pytest.mark.usefixtures("only_loopback")


def impatient(options: DownloadOptions, fault: str | int) -> DownloadOptions:
    """Return options that end the waiting for a server that is silent or drips soon, and no other."""
    return replace(
        options, timeout=0.3 if fault in ("stall", "mute") else 30, patience=1 if fault == "drip" else 60
    )


def hidden(options: DownloadOptions) -> list[str]:
    """Return what is left in the folder of unfinished files."""
    return sorted(p.name for p in (options.cache / ".partial").iterdir() if p.suffix != ".lock")


def test_a_file_comes_once_with_progress(server: Script, options: DownloadOptions) -> None:
    seen: list[tuple[str, int, int]] = []
    for _ in range(2):
        path = fetch("some", files_of(server), options, lambda *call: seen.append(call))
        assert path == options.cache / "some" / "data.bin" and path.read_bytes() == DATA
    assert server.log == [("/data.bin", None)]
    assert seen[-1] == ("download data.bin", len(DATA), len(DATA))
    done = [call[1] for call in seen]
    assert len(done) > 5 and done == sorted(done)
    assert hidden(options) == []


@pytest.mark.parametrize(
    "faults",
    [["cut"], ["cut"] * 4, ["stall"], ["drip"], ["mute"], [503, "cut", 429], ["/data.bin"], ["wrong range"]],
)
@pytest.mark.parametrize("checksum", [MD5, None])
def test_what_interrupts_is_overcome(
    server: Script, options: DownloadOptions, faults: list[str | int], checksum: str | None
) -> None:
    server.faults[:] = faults
    options = impatient(options, faults[0])
    assert fetch("some", files_of(server, checksum), options, None).read_bytes() == DATA
    if faults[0] == "cut":
        assert [asked is not None for _, asked in server.log] == [False] + [True] * len(faults)
    assert hidden(options) == []


def test_a_cut_transfer_goes_on_in_a_later_run(server: Script, options: DownloadOptions) -> None:
    server.faults[:] = ["cut", 404]
    with pytest.raises(DataError, match="404"):
        fetch("some", files_of(server), options, None)
    size = (options.cache / ".partial" / "some-data.bin.part").stat().st_size
    assert 0 < size < len(DATA)
    server.log.clear()
    assert fetch("some", files_of(server), options, None).read_bytes() == DATA
    assert server.log == [("/data.bin", f"bytes={size}-")]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
@pytest.mark.parametrize("checksum", [MD5, None])
def test_what_has_no_strong_tag_is_resumed_only_under_a_checksum(
    server: Script, options: DownloadOptions, checksum: str | None, tag: str
) -> None:
    """Else the file may have changed on the way, and nothing would tell."""
    server.tag, server.files["/data.bin"] = tag, np.random.default_rng(1).bytes(len(DATA))
    server.faults[:] = ["cut", 404]
    with pytest.raises(DataError, match="404"):
        fetch("some", files_of(server, checksum), options, None)
    server.files["/data.bin"] = DATA
    server.log.clear()
    assert fetch("some", files_of(server, checksum), options, None).read_bytes() == DATA
    assert [asked is not None for _, asked in server.log] == ([True, False] if checksum else [False])


@pytest.mark.parametrize("change", ["tag", "size", "address", "no ranges", "wrong range"])
def test_parts_of_two_files_are_not_joined(server: Script, options: DownloadOptions, change: str) -> None:
    old = np.random.default_rng(1).bytes(900_000 if change == "size" else len(DATA))
    server.files["/data.bin"] = old
    server.faults[:] = ["cut", 404]
    if change in ("size", "wrong range"):
        server.tag = ""
    remote = files_of(server, None)
    with pytest.raises(DataError):
        fetch("some", remote, options, None)
    server.files |= {"/data.bin": DATA, "/other/data.bin": DATA}
    if change == "tag":
        server.tag = '"two"'
    if change == "address":
        remote = replace(remote, address=server.address + "other/")
    if change == "wrong range":
        server.faults[:] = ["wrong range"]
    server.ranges = change != "no ranges"
    assert fetch("some", remote, options, None).read_bytes() == DATA


def test_parts_of_two_files_that_nothing_tells_apart_fail_the_checksum(
    server: Script, options: DownloadOptions
) -> None:
    server.tag = ""
    server.files["/data.bin"] = bytes(len(DATA))
    server.faults[:] = ["cut", 404]
    with pytest.raises(DataError):
        fetch("some", files_of(server), options, None)
    server.files["/data.bin"] = DATA
    assert fetch("some", files_of(server), options, None).read_bytes() == DATA
    assert [asked is None for _, asked in server.log] == [True, False, False, True]


def test_a_file_of_unknown_size_is_taken(server: Script, options: DownloadOptions) -> None:
    server.size_known = False
    assert fetch("some", files_of(server), options, None).read_bytes() == DATA
    assert fetch("other", files_of(server, None), options, None).read_bytes() == DATA


FAILURES: dict[str, tuple[list[str | int], str]] = {
    "not there": ([404], "the server answered 404 Not Found"),
    "forbidden": ([403], "the server answered 403 Forbidden"),
    "broken server": ([500] * 3, "the server answered 500"),
    "stalls": (["stall"] * 40, "the server does not answer"),
    "drips": (["drip"] * 40, "the server sends next to nothing"),
    "says nothing at all": (["mute"] * 40, "the server does not answer"),
    "web page": (["html"], "the server answered with a web page, not with the file"),
    "web page that says it is not": (
        ["sneaky html"],
        "the server answered with a web page, not with the file",
    ),
    "circle": (["/data.bin"] * 400, "the server redirects endlessly"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failures_are_one_sentence_with_address_and_another_way(
    server: Script, options: DownloadOptions, failure: str
) -> None:
    server.faults[:], reason = FAILURES[failure]
    if failure in ("stalls", "drips"):  # and no headway
        server.files["/data.bin"] = DATA[:10_000]
    options = impatient(options, server.faults[0])
    start = time.monotonic()
    with pytest.raises(DataError) as error:
        fetch("some", files_of(server, None), options, None)
    assert time.monotonic() - start < 10
    said = str(error.value)
    assert f"{server.address}data.bin ({reason}" in said.replace(" Internal Server Error", "")
    assert "`pamela prepare some SOURCE`" in said and "\n" not in said
    assert not (options.cache / "some").exists()


def test_a_name_that_takes_forever_to_look_up_is_given_up(
    server: Script, options: DownloadOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timeout of the network's ends a look-up, and neither does a signal to the thread that is in it."""
    over, real = threading.Event(), socket.getaddrinfo

    def slow(*arguments: object, **options: object) -> object:
        assert threading.current_thread() is not threading.main_thread()
        over.wait(20)
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"the server does not answer\)"):
        fetch("some", files_of(server), replace(options, patience=0.1, attempts=2), None)
    over.set()
    assert time.monotonic() - start < 10


def test_no_connection_is_said(server: Script, options: DownloadOptions) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        remote = replace(files_of(server), address=f"http://127.0.0.1:{unused.getsockname()[1]}/")
        with pytest.raises(DataError, match=r"no connection to the server\)"):
            fetch("some", remote, options, None)


def test_wrong_bytes_are_refused_and_not_kept(server: Script, options: DownloadOptions) -> None:
    server.files["/data.bin"] = DATA[:-1] + b"?"
    with pytest.raises(DataError, match=f"not the published one, whose checksum is {MD5}") as error:
        fetch("some", files_of(server), options, None)
    assert "\n" not in str(error.value)
    assert len(server.log) == 1
    assert hidden(options) == [] and not (options.cache / "some").exists()


INTERRUPTED = """
import sys
from pathlib import Path
from data_prep.download import DownloadOptions, fetch
from data_prep.sources.remote import RemoteFiles

def progress(name, done, total):
    print("there", flush=True)

options = DownloadOptions(Path(sys.argv[2]), timeout=20)
fetch("some", RemoteFiles("some", sys.argv[1], {"data.bin": None}), options, progress)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_what_came_before_a_kill_is_kept(
    server: Script, options: DownloadOptions, kind: signal.Signals
) -> None:
    server.faults[:] = ["stall"]
    command = [sys.executable, "-c", INTERRUPTED, server.address, str(options.cache)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"there\n"
        with pytest.raises(DataError, match="Another process is downloading"):
            fetch("some", files_of(server, None), options, None)
        process.send_signal(kind)
    assert not (options.cache / "some").exists()
    server.log.clear()
    assert fetch("some", files_of(server, None), options, None).read_bytes() == DATA
    ((_, asked),) = server.log
    assert asked is not None
