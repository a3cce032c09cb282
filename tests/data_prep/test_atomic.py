"""A store is whole or not there, whatever ends the writing."""

import errno
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from data_prep_support import content, origin, random_images, write_small_store

from data_prep import DataError, verify_store
from data_prep.store import SplitContent, write_store
from data_prep.store.atomic import atomic_folder, is_draft
from data_prep.store.format import Images

# Writes a store whose test part never comes; says so when it waits there.
HANGING_WRITER = """
import sys, time
from data_prep_support import content, origin, random_images
from data_prep.store import SplitContent, write_store

def blocks():
    yield 0, random_images([20])[0]
    print("waiting", flush=True)
    time.sleep(60)

whole = lambda: content(random_images([20] * 6))
splits = {"train": whole(), "val": whole(), "test": SplitContent(["a"], blocks(), 20)}
write_store(sys.argv[1], origin(), splits, image_size=8, channels=1)
"""

# Writes a store larger than the files it may make.
LIMITED_WRITER = """
import resource, sys
from data_prep_support import content, origin, random_images
from data_prep import DataError
from data_prep.store import SPLITS, write_store

resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
classes = random_images([40] * 10, size=64)
try:
    write_store(sys.argv[1], origin(), {n: content(classes) for n in SPLITS}, image_size=64, channels=1)
except DataError as error:
    print(error)
"""


def run_python(code: str, *arguments: str) -> "subprocess.Popen[str]":
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def failing(error: BaseException) -> dict[str, SplitContent]:
    def blocks() -> Iterator[tuple[int, Images]]:
        yield 0, random_images([20])[0]
        raise error

    whole = {name: content(random_images([20] * 6)) for name in ("train", "val")}
    return {**whole, "test": SplitContent(["a"], blocks(), 20)}


@pytest.mark.parametrize("error", [DataError("it broke"), KeyboardInterrupt(), ValueError("a bug")])
@pytest.mark.parametrize("before", [True, False])
def test_an_exception_leaves_no_trace(tmp_path: Path, error: BaseException, before: bool) -> None:
    out = tmp_path / "store.h5"
    old = write_small_store(out).read_bytes() if before else None
    with pytest.raises(type(error)):
        write_store(out, origin(), failing(error), image_size=8, channels=1)
    assert [path.name for path in tmp_path.iterdir()] == (["store.h5"] if before else [])
    assert not before or out.read_bytes() == old


def test_folders_that_were_made_for_it_go_too(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        write_store(tmp_path / "a/b/store.h5", origin(), failing(DataError("no")), image_size=8, channels=1)
    assert list(tmp_path.iterdir()) == []


def test_a_signal_right_after_the_temporary_file_is_made_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open
    made: list[Path] = []

    def opened(path: Path, *arguments: Any) -> Any:
        file = real(path, *arguments)
        if path.suffix == ".partial":
            file.close()
            made.append(path)
            raise KeyboardInterrupt
        return file

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(KeyboardInterrupt):
        write_small_store(tmp_path / "store.h5")
    assert made and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="folders cannot be flushed elsewhere")
def test_a_folder_that_cannot_be_flushed_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = os.fsync, []

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            refused.append(handle)
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    verify_store(write_small_store(tmp_path / "store.h5"))
    assert refused and [path.name for path in tmp_path.iterdir()] == ["store.h5"]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_kill_leaves_the_old_store_and_debris_that_the_next_run_removes(tmp_path: Path) -> None:
    out = write_small_store(tmp_path / "store.h5")
    old = out.read_bytes()
    with run_python(HANGING_WRITER, str(out)) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "waiting\n"
        # Another run for the same store must not take the file of one that is alive.
        write_small_store(out)
        assert len(list(tmp_path.glob(".store.h5.*.partial"))) == 1
        writer.send_signal(signal.SIGKILL)
    assert out.read_bytes() == old
    verify_store(out)
    (tmp_path / ".other.h5.host-1-x.partial").touch()
    write_small_store(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.h5.host-1-x.partial", "store.h5"]


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "folder"
    with pytest.raises(KeyboardInterrupt), atomic_folder(out) as draft:
        assert is_draft(draft) and not is_draft(out)
        (draft / "file").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(out) as draft:
        (draft / "file").write_text("whole")
    assert [path.name for path in out.parent.iterdir()] == ["folder"]
    with pytest.raises(DataError, match="could not be written"), atomic_folder(out) as draft:
        (draft / "file").write_text("another")
    assert [path.name for path in out.parent.iterdir()] == ["folder"]
    assert (out / "file").read_text() == "whole"


@pytest.mark.skipif(os.name != "posix", reason="nobody says elsewhere whether a process has ended")
def test_the_folder_of_a_process_that_was_killed_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 999_999_999)
        with atomic_folder(tmp_path / "folder") as draft:
            shutil.copytree(draft, tmp_path / "kept")
            name = draft.name
    (tmp_path / "folder").rmdir()
    (tmp_path / "kept").rename(tmp_path / name)
    (tmp_path / name / "file").touch()
    with atomic_folder(tmp_path / "folder"):
        assert not (tmp_path / name).exists()


@pytest.mark.skipif(os.name != "posix", reason="resource limits")
def test_a_full_disk_is_one_sentence_and_no_debris(tmp_path: Path) -> None:
    out = write_small_store(tmp_path / "store.h5")
    old = out.read_bytes()
    with run_python(LIMITED_WRITER, str(out)) as writer:
        said, _ = writer.communicate(timeout=60)
    assert said.count("\n") == 1 and "could not be written (File too large)" in said
    assert [path.name for path in tmp_path.iterdir()] == ["store.h5"] and out.read_bytes() == old


def test_debris_of_another_machine_is_left(tmp_path: Path) -> None:
    other = tmp_path / f".store.h5.not-{platform.node()}-999999999-x.partial"
    other.touch()
    write_small_store(tmp_path / "store.h5")
    assert other.exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="could not be written"):
        write_small_store(tmp_path / "file" / "store.h5")


def test_the_store_has_the_rights_that_new_files_have(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    assert write_small_store(tmp_path / "store.h5").stat().st_mode == plain.stat().st_mode


def test_parent_folders_are_made(tmp_path: Path) -> None:
    verify_store(write_small_store(tmp_path / "a" / "b" / "store.h5"))
