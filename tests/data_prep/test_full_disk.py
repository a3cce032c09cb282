"""A full temporary folder is said as such; neither the source nor the cache pays for it."""

import errno
import gzip
import hashlib
import os
import pickle
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from data_prep_support import write_folder
from forms_support import pack_tar, pack_zip
from loopback import DATA, MD5, Script, files_of

from data_prep import DataError, prepare, write_store
from data_prep.download import DownloadOptions, fetch
from data_prep.errors import NoRoom, is_of_content
from data_prep.forms import pickled
from data_prep.sources.remote import REMOTE, RemoteFiles
from data_prep.store.writer import Origin, SplitContent

FULL = Path("/dev/full")

pytestmark = pytest.mark.usefixtures("small_datasets")


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whatever is written to temporary files meet a full disk."""
    if not FULL.exists():
        pytest.skip("there is no /dev/full")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: FULL.open("w+b"))


def zipped(path: Path, folder: Path) -> Path:
    return pack_zip(folder, path / "x.zip")


def zipped_in_a_folder(path: Path, folder: Path) -> Path:
    pack_zip(folder, path / "x.zip")
    return path


def tarred(path: Path, folder: Path) -> Path:
    return pack_tar(folder, path / "x.tar.gz")


def tarred_in_a_folder(path: Path, folder: Path) -> Path:
    pack_tar(folder, path / "x.tar.gz")
    return path


def plain(_: Path, folder: Path) -> Path:
    return folder


@pytest.mark.usefixtures("no_room")
@pytest.mark.parametrize(
    ("dataset", "form", "pack"),
    [
        ("cifar-fs", "official", zipped),
        ("cifar-fs", "official", tarred),
        ("cifar-fs", "parquet", tarred_in_a_folder),
        ("cifar-fs", "parquet", plain),
        ("miniimagenet", "cache of Python 2", plain),
        ("miniimagenet", "parquet", zipped_in_a_folder),
        ("tieredimagenet", "packed npz", plain),
    ],
)
def test_a_full_disk_is_said(
    tmp_path: Path,
    written: Callable[[str, str], Path],
    dataset: str,
    form: str,
    pack: Callable[[Path, Path], Path],
) -> None:
    (tmp_path / "source").mkdir()
    source = pack(tmp_path / "source", written(dataset, form))
    with pytest.raises(
        NoRoom, match=r"could not be unpacked to the temporary folder .* with TMPDIR"
    ) as error:
        prepare(dataset, source, tmp_path / "s.h5")
    assert os.strerror(errno.ENOSPC) in str(error.value) and not (tmp_path / "s.h5").exists()


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a cache folder with a file that was downloaded without a published checksum."""
    folder = tmp_path / "cache" / "some"
    data = pickle.dumps({"image_data": np.zeros((9, 84, 84, 3), np.uint8), "class_dict": {"a": [0]}}, 2)
    write_folder(
        folder, {"x.pkl": data, ".x.pkl.sha256": f"sha256:{hashlib.sha256(data).hexdigest()}".encode()}
    )
    monkeypatch.setenv("PAMELA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setitem(REMOTE, "miniimagenet", RemoteFiles("some", "http://127.0.0.1:9/", {"x.pkl": None}))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("no_room")
@pytest.mark.parametrize("offline", [False, True])
def test_a_full_disk_removes_nothing_from_the_cache(tmp_path: Path, cached: Path, offline: bool) -> None:
    with pytest.raises(NoRoom, match="TMPDIR"):
        prepare("miniimagenet", None, tmp_path / "s.h5", offline=offline)
    assert names(cached) == [".x.pkl.sha256", "x.pkl"]


@pytest.mark.parametrize(
    "error", [MemoryError(), PermissionError(errno.EACCES, "denied"), OSError(errno.EIO, "io")]
)
def test_what_is_no_fault_of_the_files_removes_nothing(
    tmp_path: Path, cached: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*_: object) -> object:
        raise DataError("x is wrong; get a fresh copy.") from error

    monkeypatch.setattr(pickled, "read_pickle", failing)
    with pytest.raises(DataError):
        prepare("miniimagenet", None, tmp_path / "s.h5")
    assert names(cached) == [".x.pkl.sha256", "x.pkl"]


def test_offline_removes_nothing_and_online_what_is_something_else(tmp_path: Path, cached: Path) -> None:
    for offline, kept in ((True, [".x.pkl.sha256", "x.pkl"]), (False, [])):
        with pytest.raises(DataError, match="The files downloaded for miniimagenet cannot be used"):
            prepare("miniimagenet", None, tmp_path / "s.h5", offline=offline)
        assert names(cached) == kept


@pytest.mark.parametrize("record", [b"", b"sha256:", b"\xff\xfe", b"md5:abc", b"unknown:0"])
def test_a_record_that_is_none_counts_as_absent(
    server: Script, options: DownloadOptions, record: bytes
) -> None:
    remote = files_of(server, None)
    path = fetch("some", remote, options, None)
    assert path.with_name(".data.bin.sha256").read_text().startswith("sha256:")
    path.with_name(".data.bin.sha256").write_bytes(record)
    assert fetch("some", remote, replace(options, offline=True), None) == path
    assert len(server.log) == 1


def test_a_record_that_cannot_be_written_leaves_no_file_without_one(
    server: Script, options: DownloadOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", failing)
    with pytest.raises(DataError, match=r"cannot be used .No space left"):
        fetch("some", files_of(server, None), options, None)
    assert not (options.cache / "some" / "data.bin").exists()


@pytest.mark.timeout(30)
def test_wrong_bytes_that_always_come_in_two_parts_are_asked_for_twice(
    server: Script, options: DownloadOptions
) -> None:
    server.files["/data.bin"] = DATA[:-1] + b"?"
    server.faults = ["cut", "", "cut", "", "cut", "", "cut"]
    with pytest.raises(DataError, match=f"not the published one, whose checksum is {MD5}"):
        fetch("some", files_of(server), options, None)
    assert [asked for _, asked in server.log] == [None, "bytes=500000-"] * 2


def test_a_truncated_tar_is_the_fault_of_the_file(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(__file__)
    (tmp_path / "x.tgz").write_bytes(gzip.compress((tmp_path / "x.tar").read_bytes())[:-9])
    with pytest.raises(DataError) as error:
        prepare("cifar-fs", tmp_path / "x.tgz", tmp_path / "s.h5")
    assert is_of_content(error.value) and not isinstance(error.value, NoRoom)


def test_a_disk_that_is_too_full_for_a_store_is_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 cannot close a file that it cannot write, and takes the interpreter with it at its end."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2_000_000))
    blocks = [(0, np.zeros((300, 84, 84, 3), np.uint8))]
    splits = {name: SplitContent(["a"], iter(blocks), 300) for name in ("train", "val", "test")}
    origin = Origin("x", "y", lambda: "0" * 64, "", "")
    out = tmp_path / "new" / "s.h5"
    with pytest.raises(
        DataError, match=r"s\.h5 needs 19\.1 MB, but .* has only 2\.0 MB free; free some space"
    ):
        write_store(out, origin, splits, image_size=84, channels=3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("whose", ["progress", "source", "blocks"])
@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "nobody reads"), RuntimeError("no thread")])
def test_an_error_of_somebody_else_is_not_one_of_the_store(
    tmp_path: Path, whose: str, error: Exception
) -> None:
    def fail(*_: object) -> str:
        raise error

    def blocks():
        yield 0, np.zeros((2, 8, 8, 1), np.uint8)
        if whose == "blocks":
            fail()

    splits = {name: SplitContent(["a"], blocks(), 2) for name in ("train", "val", "test")}
    origin = Origin("x", "y", fail if whose == "source" else lambda: "0" * 64, "", "")
    with pytest.raises(type(error)) as raised:
        write_store(
            tmp_path / "s.h5", origin, splits, image_size=8, channels=1,
            progress=fail if whose == "progress" else None,
        )  # fmt: skip
    assert raised.value is error
    assert list(tmp_path.iterdir()) == []
