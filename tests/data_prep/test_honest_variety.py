"""The same images, packed by many programs on many systems, make the same store."""

import io
import os
import shutil
import subprocess
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from data_prep_support import png, write_folder, write_tar, write_zip

from data_prep import DataError, Store, prepare
from data_prep.archives import FolderTree, open_tree

LABELS = ["café", "Ångström/ü", "b", "c d"]
FILES = {f"{label}/é{n}.png" if n else f"{label}/z.png": png(9, seed=n) for n in range(3) for label in LABELS}

posix = pytest.mark.skipif(os.name != "posix", reason="links")


def renamed(change: Callable[[str], str]) -> dict[str, bytes]:
    return {change(name): data for name, data in FILES.items()}


def apart(name: str) -> str:
    return unicodedata.normalize("NFD", name)


def from_windows(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("photos\\b\\"), b"")
        for name, data in FILES.items():
            info = zipfile.ZipInfo("x")
            info.filename = "photos\\" + name.replace("/", "\\")
            info.flag_bits |= 0x800
            archive.writestr(info, data)
    return path


def with_links(path: Path) -> Path:
    with zipfile.ZipFile(write_zip(path, FILES), "a") as archive:
        for n in range(5):
            info = zipfile.ZipInfo(f"b/link{n}.png")
            info.create_system, info.external_attr = 3, 0o120777 << 16
            archive.writestr(info, "../c d/z.png")
    return path


def hard_linked(path: Path) -> Path:
    seen: dict[bytes, str] = {}
    with tarfile.open(path, "w") as archive:
        for name, data in FILES.items():
            member = tarfile.TarInfo(f"./{name}")
            if data in seen:
                member.type, member.linkname = tarfile.LNKTYPE, seen[data]
            else:
                member.size = len(data)
                seen[data] = member.name
            archive.addfile(member, io.BytesIO(data))
    return path


def by_tar(*options: str) -> Callable[[Path], Path]:
    def pack(path: Path) -> Path:
        if shutil.which("tar") is None:
            pytest.skip("there is no tar")
        folder = write_folder(path.parent / "packed", FILES)
        subprocess.run(["tar", *options, "-cf", path, "-C", folder, "."], check=True)
        return path

    return pack


FORMS: dict[str, Callable[[Path], Path]] = {
    "zip": lambda path: write_zip(path, FILES),
    "zip of Windows": from_windows,
    "zip with links": with_links,
    "zip of macOS": lambda path: write_zip(path, renamed(apart)),
    "zip with dots": lambda path: write_zip(path, renamed(lambda name: f"./x/./{name}")),
    "tar": lambda path: write_tar(path, FILES),
    "tar of GNU": lambda path: write_tar(
        path, renamed(lambda name: f"{'n' * 120}/{name}"), tarfile.GNU_FORMAT
    ),
    "tar with long names": lambda path: write_tar(path, renamed(lambda name: f"{'n' * 120}/{name}")),
    "tar of POSIX": lambda path: write_tar(path, FILES, tarfile.USTAR_FORMAT),
    "tar with dots": lambda path: write_tar(path, renamed(lambda name: f"././{name}")),
    "tar with all twice": lambda path: write_tar(path, FILES | renamed(lambda name: f"./{name}")),
    "tar with hard links": hard_linked,
    "tar of macOS": lambda path: write_tar(path, renamed(apart)),
    "tar by tar": by_tar(),
    "tar by tar in its oldest form": by_tar("--format=v7"),
    "folder": lambda path: write_folder(path, FILES),
    "folder of macOS": lambda path: write_folder(path, renamed(apart)),
}


def made(source: Path, out: Path) -> str:
    return prepare("folder", source, out, store_name="own").sha256


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("usual")
    return made(write_folder(folder / "x", FILES), folder / "s.h5")


@pytest.mark.parametrize("form", FORMS)
def test_the_same_images_make_the_same_store(tmp_path: Path, expected: str, form: str) -> None:
    assert made(FORMS[form](tmp_path / "source"), tmp_path / "s.h5") == expected


def test_names_that_differ_in_their_accents_alone_are_refused(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "x", FILES | renamed(apart))
    with pytest.raises(DataError, match="has two folders called 'café'"):
        made(source, tmp_path / "s.h5")


@posix
def test_links_into_a_hidden_folder_are_followed(tmp_path: Path, expected: str) -> None:
    write_folder(tmp_path / "x" / ".store", FILES)
    for label in ("café", "Ångström", "b", "c d"):
        (tmp_path / "x" / label).symlink_to(f".store/{label}", target_is_directory=True)
    assert made(tmp_path / "x", tmp_path / "s.h5") == expected


@posix
def test_links_in_circles_have_an_end(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a/1.png": b"", "b/2.png": b"", ".hidden/x.png": b"", "__MACOSX/y.png": b""})
    (tmp_path / "a" / "b").symlink_to("../b", target_is_directory=True)
    (tmp_path / "b" / "a").symlink_to("../a", target_is_directory=True)
    (tmp_path / "b" / "self").symlink_to(".", target_is_directory=True)
    assert FolderTree(tmp_path).names() == ["a/1.png", "a/b/2.png", "b/2.png", "b/a/1.png"]


def parts(first: str = "") -> dict[str, dict[str, bytes]]:
    """Return the files of a split by label of its parts."""
    return {
        part: {
            f"{first.format(part)}{part[:2]}{label}/{n}.png": png(9, seed=n)
            for label in range(3)
            for n in range(2)
        }
        for part in ("train", "val", "test")
    }


@pytest.mark.parametrize("first", ["", "{}/", "data/{}/"])
@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
def test_archives_called_as_splits_are_the_split(tmp_path: Path, first: str, ending: str) -> None:
    usual = {f"{part}/{name}": data for part, files in parts().items() for name, data in files.items()}
    expected = made(write_folder(tmp_path / "usual", usual), tmp_path / "s.h5")
    (tmp_path / "x").mkdir()
    for part, files in parts(first).items():
        path = tmp_path / "x" / f"{part}.{ending}"
        write_zip(path, files) if ending == "zip" else write_tar(path, files)
    assert made(tmp_path / "x", tmp_path / "other.h5") == expected


def test_a_class_in_two_archives_of_a_split_is_refused(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        write_zip(tmp_path / f"{part}.zip", FILES)
    with pytest.raises(DataError, match="in two splits"):
        made(tmp_path, tmp_path / "s.h5")


def test_archives_of_one_class_are_classes(tmp_path: Path) -> None:
    for label in ("a", "b", "c"):
        inside = {"a": "", "b": "b/", "c": ""}[label]
        write_zip(tmp_path / f"{label}.zip", {f"{inside}{n}.png": png(9, seed=n) for n in range(2)})
    store = prepare("folder", tmp_path, tmp_path / "s.h5", store_name="own").store
    with Store.open(store) as opened:
        assert sorted(name for split in opened.splits() for name in opened.split(split).class_names) == [
            *"abc"
        ]


def test_an_archive_that_cannot_be_read_is_not_left_out_silently(tmp_path: Path) -> None:
    for label in "abcd":
        write_zip(tmp_path / f"{label}.zip", {"1.png": png(9)})
    (tmp_path / "d.zip").write_bytes(b"PK\3\4 and then nothing")
    with pytest.raises(DataError, match=r"d\.zip cannot be read"):
        made(tmp_path, tmp_path / "s.h5")
    (tmp_path / "d.zip").rename(tmp_path / "d.dat")  # this is none
    made(tmp_path, tmp_path / "s.h5")


def test_hard_links_read_as_their_targets(tmp_path: Path) -> None:
    with open_tree(hard_linked(tmp_path / "x.tar")) as tree:
        assert {name: tree.read(name) for name in tree.names()} == FILES
