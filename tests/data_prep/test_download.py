"""Downloads from a server on 127.0.0.1 that cuts, stalls, redirects and lies; no other address is asked."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_prep_support import write_zip
from loopback import Script, serving
from test_prepare import omniglot_files

from data_prep import DataError, prepare, verify_store
from data_prep.download import DownloadOptions, discard, fetch
from data_prep.sources import omniglot
from data_prep.sources.remote import REMOTE, RemoteFiles

DATA = np.random.default_rng(0).bytes(1_000_000)
MD5 = "md5:" + hashlib.md5(DATA).hexdigest()


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but 127.0.0.1 be reached, and no proxy or setting of the user's matter."""
    real = socket.getaddrinfo

    def checked(host: str, *arguments: object, **options: object) -> object:
        assert host == "127.0.0.1", f"{host} was asked for"
        return real(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", checked)
    for name in (*os.environ,):
        if name.lower().endswith("_proxy") or name.startswith("PAMELA_"):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[Script]:
    with serving(Script({"/data.bin": DATA})) as script:
        yield script


@pytest.fixture
def options(tmp_path: Path) -> DownloadOptions:
    return DownloadOptions(tmp_path / "cache", attempts=3, wait=0.01)


def files_of(server: Script, checksum: str | None = MD5) -> RemoteFiles:
    return RemoteFiles("some", server.address, {"data.bin": checksum})


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
    "circle": (["/data.bin"] * 400, "the server redirects without end"),
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


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Script, options: DownloadOptions) -> None:
    for checksum in (MD5, None):
        path = fetch("some", files_of(server, checksum), options, None)
        path.write_bytes(DATA[:-1] + b"?")
        with pytest.raises(DataError, match="and --offline"):
            fetch("some", files_of(server, checksum), replace(options, offline=True), None)
        assert fetch("some", files_of(server, checksum), options, None).read_bytes() == DATA
        path.unlink()


def test_offline_takes_what_is_there_and_asks_nobody(server: Script, options: DownloadOptions) -> None:
    offline = replace(options, offline=True)
    with pytest.raises(DataError, match=rf"--offline forbids .* from {server.address}data\.bin"):
        fetch("some", files_of(server), offline, None)
    (options.cache / "some").mkdir(parents=True)
    (options.cache / "some" / "data.bin").write_bytes(DATA)  # put there by hand
    for checksum in (MD5, None):
        assert fetch("some", files_of(server, checksum), offline, None).read_bytes() == DATA
    assert server.log == []


def test_only_what_was_downloaded_unchecked_is_discarded(server: Script, options: DownloadOptions) -> None:
    for checksum, by_hand, kept in ((MD5, False, True), (None, True, True), (None, False, False)):
        remote = replace(files_of(server, checksum), folder=f"{checksum}-{by_hand}".replace(":", "-"))
        path = options.cache / remote.folder / "data.bin"
        if by_hand:
            path.parent.mkdir(parents=True)
            path.write_bytes(DATA)
        assert fetch("some", remote, options, None) == path
        discard(remote, options)
        assert list(path.parent.iterdir()) == [path] * kept


def test_mirrors_are_asked_in_order_and_instead(server: Script, options: DownloadOptions) -> None:
    server.files = {"/second/data.bin": DATA}
    mirrors = (server.address + "first/", server.address + "second/")
    remote = replace(files_of(server), address="http://published.example/")
    assert fetch("some", remote, replace(options, mirrors=mirrors), None).read_bytes() == DATA
    assert [path for path, _ in server.log] == ["/first/data.bin", "/second/data.bin"]
    server.files.clear()
    with pytest.raises(DataError, match=r"first/data\.bin .*404.* or .*second/data\.bin .*404"):
        fetch("else", replace(remote, folder="else"), replace(options, mirrors=mirrors), None)


def test_several_files_make_a_folder(server: Script, options: DownloadOptions) -> None:
    server.files["/b.bin"] = b"b"
    remote = RemoteFiles("two", server.address, {"data.bin": MD5, "b.bin": None})
    assert fetch("two", remote, options, None) == options.cache / "two"
    assert (options.cache / "two" / "b.bin").read_bytes() == b"b"


def test_settings_come_from_flag_or_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert DownloadOptions.from_environment().mirrors == ()
    assert DownloadOptions.from_environment().cache.name == "pamela"
    monkeypatch.setenv("PAMELA_MIRROR", "http://a.example/x https://b.example/,http://c.example")
    monkeypatch.setenv("PAMELA_CACHE_DIR", str(tmp_path))
    found = DownloadOptions.from_environment(offline=True)
    assert found.mirrors == ("http://a.example/x/", "https://b.example/", "http://c.example/")
    assert (found.cache, found.offline) == (tmp_path, True)
    assert DownloadOptions.from_environment("http://d.example").mirrors == ("http://d.example/",)
    for wrong in ("ftp://a.example", "mirror", "http:///x"):
        with pytest.raises(DataError, match="begins with http"):
            DownloadOptions.from_environment(wrong)


def test_a_cache_that_cannot_be_written_is_said(server: Script, options: DownloadOptions) -> None:
    options.cache.write_text("a file")
    with pytest.raises(DataError, match=r"The cache .* cannot be used .*PAMELA_CACHE_DIR"):
        fetch("some", files_of(server), options, None)


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


def test_prepare_downloads_omniglot(server: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(omniglot, "_DRAWINGS", 1)
    monkeypatch.setenv("PAMELA_CACHE_DIR", str(tmp_path / "cache"))
    checksums: dict[str, str | None] = {}
    for part in ("background", "evaluation"):
        name = f"images_{part}.zip"
        data = write_zip(tmp_path / name, omniglot_files(part)).read_bytes()
        server.files[f"/{name}"] = data
        checksums[name] = "md5:" + hashlib.md5(data).hexdigest()
    monkeypatch.setitem(REMOTE, "omniglot", RemoteFiles("omniglot", "http://published.example/", checksums))
    seen: list[str] = []
    made = prepare(
        "omniglot",
        None,
        tmp_path / "o.h5",
        mirror=server.address,
        progress=lambda stage, *_: seen.append(stage),
    )
    verify_store(made.store)
    assert list(dict.fromkeys(seen)) == [
        "download images_background.zip",
        "download images_evaluation.zip",
        "train",
        "val",
        "test",
    ]
    assert prepare("omniglot", None, tmp_path / "again.h5", offline=True).sha256 == made.sha256
    assert len(server.log) == 2


def test_what_turns_out_to_be_something_else_does_not_stay(
    server: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAMELA_CACHE_DIR", str(tmp_path / "cache"))
    remote = RemoteFiles("omniglot", server.address, {"data.bin": None})
    monkeypatch.setitem(REMOTE, "omniglot", remote)
    with pytest.raises(DataError, match="What was downloaded for omniglot cannot be used") as error:
        prepare("omniglot", None, tmp_path / "o.h5")
    assert "\n" not in str(error.value) and "`pamela prepare omniglot SOURCE`" in str(error.value)
    assert list((tmp_path / "cache" / "omniglot").iterdir()) == []
    assert not (tmp_path / "o.h5").exists()
