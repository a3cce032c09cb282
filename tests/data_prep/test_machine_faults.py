"""What is wrong with the machine is not taken for what is wrong with the data, and changes no dataset."""

import errno
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from data_prep_support import png, write_folder, write_zip

from data_prep import DataError, images, prepare
from data_prep.archives import FolderTree, MountedTree
from data_prep.machine import allow_open_files

FILES = {f"kind{kind:02}/{n}.png": png(16, seed=n) for kind in range(20) for n in range(2)}


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "Stale")])
def test_a_disk_that_fails_once_loses_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError
) -> None:
    source = write_folder(tmp_path / "x", FILES)
    read_bytes = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.parts[-2:] == ("kind03", "1.png"):
            raise fault
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(DataError, match=rf"kind03/1\.png cannot be read \({fault.strerror}\)"):
        prepare("folder", source, tmp_path / "s.h5")
    assert not (tmp_path / "s.h5").exists()


def test_memory_that_is_short_loses_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit_image, calls = images.fit_image, iter(range(10**6))

    def failing(*arguments: Any) -> Any:
        if next(calls) == 7:
            raise MemoryError
        return fit_image(*arguments)

    monkeypatch.setattr(images, "fit_image", failing)
    source = write_folder(tmp_path / "x", FILES)
    with pytest.raises(DataError, match=r"\.png cannot be decoded: there is not enough memory"):
        prepare("folder", source, tmp_path / "s.h5")


@pytest.fixture
def few_files() -> Iterator[None]:
    """Let this process have few files open, until it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_archives_than_files_may_be_open(tmp_path: Path, few_files: None) -> None:
    for number in range(300):
        write_zip(tmp_path / f"kind{number:03}.zip", {"1.png": b"", "2.png": b""})
    with FolderTree(tmp_path) as folder, MountedTree(folder) as tree:
        assert len(tree.names()) == 600 and not tree.faults


def test_the_limit_of_open_files_is_only_raised(few_files: None) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for count in (0, 1000, 10, 2**70):
        allow_open_files(count)
        soft, same = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert same == hard and soft >= 256 and (count > 1000 or soft >= min(count, hard))


def test_too_many_open_files_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    source = write_folder(tmp_path / "x", FILES)
    monkeypatch.setattr(Path, "read_bytes", full)
    with pytest.raises(DataError, match="raise the limit with `ulimit -n`"):
        prepare("folder", source, tmp_path / "s.h5")


def test_a_subfolder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as lost+found at the top of a disk: it does no harm, and is named where nothing is found."""
    scandir = os.scandir

    def guarded(path: str) -> Any:
        if "lost+found" in path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    expected = prepare("folder", write_folder(tmp_path / "x", FILES), tmp_path / "one.h5").sha256
    (tmp_path / "x" / "lost+found").mkdir()
    monkeypatch.setattr("data_prep.archives.folder.os.scandir", guarded)
    made = prepare("folder", tmp_path / "x", tmp_path / "two.h5")
    assert made.sha256 == expected
    assert any("lost+found cannot be read (Permission denied)" in note for note in made.notes)
    (tmp_path / "y" / "lost+found").mkdir(parents=True)
    with pytest.raises(DataError, match=r"lost\+found cannot be read"):
        prepare("cifar-fs", tmp_path / "y", tmp_path / "s.h5")


# Where the store goes ------------------------------------------------------------------------------------


def test_what_a_link_leads_to_is_replaced(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "x", FILES)
    (tmp_path / "big").mkdir()
    link = tmp_path / "s.h5"
    link.symlink_to(tmp_path / "big" / "t.h5")
    for force in (False, True):
        made = prepare("folder", source, link, force=force)
        assert made.store == link and link.is_symlink() and not (tmp_path / "big" / "t.h5").is_symlink()
    with pytest.raises(DataError, match=r"s\.h5 already exists"):
        prepare("folder", source, link)


def test_a_pipe_is_no_store(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.h5")
    with pytest.raises(DataError, match=r"s\.h5 is a device or pipe"):
        prepare("folder", write_folder(tmp_path / "x", FILES), tmp_path / "s.h5", force=True)
    assert stat.S_ISFIFO((tmp_path / "s.h5").stat().st_mode)


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("f" * 300 + ".h5", "could not be written (File name too long); choose another --out"),
        ("file/deep/s.h5", "file is a file, not a folder"),
        ("circle/s.h5", "could not be written"),
        ("circle", "could not be written"),
    ],
)
def test_a_place_that_cannot_be(tmp_path: Path, out: str, sentence: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(DataError) as caught:
        prepare("folder", write_folder(tmp_path / "x", FILES), tmp_path / out)
    assert sentence in str(caught.value)


def test_a_source_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(File name too long\)"):
        prepare("cifar-fs", tmp_path / ("x" * 300), tmp_path / "s.h5")


def test_a_store_is_called_as_the_link(tmp_path: Path) -> None:
    write_folder(tmp_path / "objects" / "3f2a", FILES)
    (tmp_path / "flowers").symlink_to(tmp_path / "objects" / "3f2a")
    assert prepare("folder", tmp_path / "flowers", tmp_path / "s.h5").dataset == "flowers"
