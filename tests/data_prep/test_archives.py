"""Folders, zips and tars: the same view of each, and nothing hostile gets through."""

import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import DataError
from data_prep.archives import MAX_MEMBER_BYTES, FolderTree, MountedTree, open_tree, tars

FILES = {"top/a/1.png": b"one", "top/a/2.png": b"two" * 1000, "top/b/ü.png": b""}
HIDDEN = {"top/.hidden/x.png": b"x", "__MACOSX/top/a/._1.png": b"x", "top/a/.DS_Store": b"x"}


def make_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def make_gzipped_tar(path: Path, files: dict[str, bytes]) -> Path:
    return make_tar(path, files, "w:gz")


MAKERS = [make_folder, make_zip, make_tar, make_gzipped_tar]


@pytest.mark.parametrize("make", MAKERS)
def test_each_kind_shows_the_same_files(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    path = make(tmp_path / "data.bin", FILES | HIDDEN)  # the name says nothing
    with open_tree(path) as tree:
        assert tree.names() == sorted(FILES)
        assert {name: tree.read(name) for name in tree.names()} == FILES
        assert len(tree.sha256()) == 64


def test_archives_in_a_folder_are_looked_into(tmp_path: Path) -> None:
    make_zip(tmp_path / "one.zip", FILES)
    make_gzipped_tar(tmp_path / "two.tgz", FILES)
    (tmp_path / "note.txt").write_text("not an archive")
    with MountedTree(FolderTree(tmp_path)) as tree:
        inside = {f"{mount}/{name}": data for mount in ("one.zip", "two.tgz") for name, data in FILES.items()}
        assert inside.keys() < set(tree.names())
        assert {name: tree.read(name) for name in inside} == inside
        assert tree.read("note.txt") == b"not an archive"


def test_a_folders_checksum_is_that_of_what_was_read(tmp_path: Path) -> None:
    make_folder(tmp_path, FILES)
    digests = []
    for names in (sorted(FILES), sorted(FILES, reverse=True), sorted(FILES)[:1]):
        tree = FolderTree(tmp_path)
        for name in names:
            tree.read(name)
        digests.append(tree.sha256())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    "name", ["../out.png", "a/../../out.png", "/etc/x.png", "C:/x.png", "..\\x.png", "\\\\host\\x.png"]
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_names_that_leave_the_archive_are_refused(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    path = make(tmp_path / "slip", {"good.png": b"x", name: b"x"})
    with pytest.raises(DataError, match="points outside the archive"):
        open_tree(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["slip"]


def test_links_in_a_tar_are_passed_over(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"member{kind!r}.png")
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
    with open_tree(path) as tree:
        assert tree.names() == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_pipes_and_circles_in_a_folder_are_passed_over(tmp_path: Path) -> None:
    make_folder(tmp_path, FILES)
    os.mkfifo(tmp_path / "top" / "pipe.png")
    (tmp_path / "top" / "circle").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "top" / "dangling.png").symlink_to(tmp_path / "nowhere")
    assert FolderTree(tmp_path).names() == sorted(FILES)


@pytest.mark.parametrize("make", [make_zip, make_tar, make_gzipped_tar])
def test_a_member_that_unpacks_without_bound_is_refused(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    path = make(tmp_path / "bomb", {"bomb.png": bytes(MAX_MEMBER_BYTES + 1)})
    with open_tree(path) as tree, pytest.raises(DataError, match=r"bomb\.png has 67,108,865 bytes"):
        tree.read("bomb.png")


def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    path = make_gzipped_tar(tmp_path / "bomb.tgz", {"bomb.png": bytes(3 * MAX_MEMBER_BYTES)})
    with pytest.raises(DataError, match="unpacks to more than 100 times"):
        open_tree(path)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or folder"):
        open_tree(tmp_path / "nothing.zip")
    for data in (b"PK\3\4 and then nothing", b"\x1f\x8bnothing"):
        (tmp_path / "file.zip").write_bytes(data)
        with pytest.raises(DataError, match=r"file\.zip"):
            open_tree(tmp_path / "file.zip")


@pytest.mark.skipif(os.name != "posix", reason="pipes with names")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"pipe is neither a file nor a folder"):
        open_tree(tmp_path / "pipe")


@pytest.mark.parametrize("data", [b"", b"text", "npz"])
def test_any_other_file_is_a_tree_of_its_own(tmp_path: Path, data: bytes | str) -> None:
    path = tmp_path / "file.zip"
    if data == "npz":
        np.savez(tmp_path / "file.npz", images=np.zeros(5))
        (tmp_path / "file.npz").rename(path)
    else:
        path.write_bytes(data)  # type: ignore[arg-type]
    content = path.read_bytes()
    with open_tree(path) as tree:
        assert (tree.kind, tree.names()) == ("file", ["file.zip"])
        assert tree.read("file.zip") == tree.open("file.zip").read() == content
        assert tree.head("file.zip", 3) == content[:3]
        assert tree.sha256() == hashlib.sha256(content).hexdigest()
    with MountedTree(FolderTree(tmp_path)) as tree:
        assert tree.names() == ["file.zip"]


@settings(max_examples=60)
@given(data=st.data(), make=st.sampled_from([make_zip, make_tar, make_gzipped_tar]))
def test_damaged_archives_never_surprise(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    make: Callable[[Path, dict[str, bytes]], Path],
) -> None:
    path = make(tmp_path_factory.getbasetemp() / "damaged", FILES)
    damaged = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    else:
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        with open_tree(path) as tree:
            for name in tree.names():
                tree.read(name)
                tree.open(name).read()
    except DataError as error:
        assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("make", MAKERS)
def test_files_can_be_read_at_any_place(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    files = {"a.bin": bytes(range(256)) * 40, "b.bin": b"other"}
    with open_tree(make(tmp_path / "data", files)) as tree:
        one, other = tree.open("a.bin"), tree.open("b.bin")
        for start, size in ((10_000, 500), (3, 7), (10_239, 1), (10_240, 1), (50_000, 3)):
            one.seek(start)
            assert one.read(size) == files["a.bin"][start : start + size]
        assert other.read() == b"other" and tree.head("a.bin", 3) == b"\0\1\2"
        assert one.seek(-1, os.SEEK_END) == 10_239 and one.seek(-9, os.SEEK_CUR) == 10_230


def test_stored_members_of_a_zip_are_read_in_place(tmp_path: Path) -> None:
    data = bytes(range(256)) * 400
    with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("first", b"x" * 77)
        archive.writestr("second", data)
    with open_tree(tmp_path / "data.zip") as tree:
        assert tree.open("second").read() == data


def test_a_member_that_unpacks_to_a_hundred_times_its_size_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "bomb", {"bomb.pkl": bytes(2 * MAX_MEMBER_BYTES)})
    with open_tree(path) as tree, pytest.raises(DataError, match=r"bomb\.pkl unpacks to more than 100 times"):
        tree.open("bomb.pkl")


def test_a_tar_with_members_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "_MOST_MEMBERS", 3)
    with open_tree(make_tar(tmp_path / "few.tar", dict.fromkeys("abc", b""))) as tree:
        assert tree.names() == ["a", "b", "c"]
    path = make_gzipped_tar(tmp_path / "many.tar.gz", dict.fromkeys("abcd", b""))
    with pytest.raises(DataError, match=r"many\.tar\.gz .*more than 3 members"):
        open_tree(path)


def test_a_file_of_a_folder_that_is_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "bomb", {"bomb.png": bytes(MAX_MEMBER_BYTES + 1)})
    with open_tree(path) as tree, pytest.raises(DataError, match=r"bomb\.png has 67,108,865 bytes"):
        tree.read("bomb.png")
