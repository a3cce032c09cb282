"""What is particular to zips: names in code pages, and members that are stored as they are."""

import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path

import pytest
from data_prep_support import png, write_folder

from data_prep import DataError, Store, prepare
from data_prep.archives import open_tree

NAMES = ["épée/1.png", "日本/1.png", "plain/1.png", unicodedata.normalize("NFD", "crème/1.png")]


class Unmarked(zipfile.ZipInfo):
    """A member whose name is written as it is, and not marked as UTF-8."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.filename.encode("cp437"), self.flag_bits & ~0x800


def write_unmarked(path: Path, files: dict[bytes, bytes], extra: bytes = b"") -> Path:
    """Write a zip whose names are these bytes, without the mark that they are UTF-8."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            info = Unmarked(name.decode("cp437"))
            info.extra = extra
            archive.writestr(info, data)
    return path


def test_the_tool_writes_what_it_says(tmp_path: Path) -> None:
    path = write_unmarked(tmp_path / "x.zip", {"épée/1.png".encode(): b"x"})
    with zipfile.ZipFile(path) as archive:
        (info,) = archive.infolist()
    assert not info.flag_bits & 0x800 and info.filename.startswith("├⌐p├⌐e")


@pytest.mark.parametrize("name", NAMES)
def test_names_in_utf8_without_the_mark(tmp_path: Path, name: str) -> None:
    with open_tree(write_unmarked(tmp_path / "x.zip", {name.encode(): b"data"})) as tree:
        assert tree.names() == [name]
        assert tree.read(name) == b"data" and tree.open(name).read() == b"data"


def test_names_in_a_code_page(tmp_path: Path) -> None:
    with open_tree(write_unmarked(tmp_path / "x.zip", {"fête/1.png".encode("cp437"): b""})) as tree:
        assert tree.names() == ["fête/1.png"]


@pytest.mark.parametrize("right", [True, False])
def test_a_name_beside_the_name_counts_if_it_is_of_this_one(tmp_path: Path, right: bool) -> None:
    raw = "fête".encode("cp850") + b".png"
    checksum = zlib.crc32(raw) ^ (not right)
    body = b"\1" + struct.pack("<I", checksum) + "fêté.png".encode()
    other = struct.pack("<HH", 0x5455, 1) + b"x"
    path = write_unmarked(
        tmp_path / "x.zip", {raw: b""}, other + struct.pack("<HH", 0x7075, len(body)) + body
    )
    with open_tree(path) as tree:
        assert tree.names() == ["fêté.png" if right else raw.decode("cp437")]


def test_a_name_beside_the_name_cannot_lead_out(tmp_path: Path) -> None:
    raw = b"\xff.png"
    body = b"\1" + struct.pack("<I", zlib.crc32(raw)) + b"../x.png"
    path = write_unmarked(tmp_path / "x.zip", {raw: b""}, struct.pack("<HH", 0x7075, len(body)) + body)
    with pytest.raises(DataError, match="points outside the archive"):
        open_tree(path)


def test_a_zip_without_the_mark_is_the_same_dataset_as_the_folder(tmp_path: Path) -> None:
    files = {f"{name}{i}/{n}.png": png(seed=i) for i, name in enumerate("éàüñçø") for n in range(2)}
    stores = []
    for source in (
        write_folder(tmp_path / "flowers", files),
        write_unmarked(tmp_path / "flowers.zip", {name.encode(): data for name, data in files.items()}),
    ):
        made = prepare("folder", source, tmp_path / f"{source.name}.h5")
        with Store.open(made.store) as store:
            stores.append([made.sha256, *(store.split(split).class_names for split in store.splits())])
    assert stores[0] == stores[1]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_members_are_found_however_they_are_read(tmp_path: Path, method: int) -> None:
    path, data = tmp_path / "x.zip", bytes(range(256)) * 20
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.bin", data)
        archive.writestr("b.bin", data)
    with open_tree(path) as tree:
        assert tree.open("a.bin").read() == tree.open("a.bin").read() == tree.read("a.bin") == data
    packed = bytearray(path.read_bytes())
    packed[60] ^= 1  # in the first member
    path.write_bytes(packed)
    with open_tree(path) as tree:
        for read in (tree.read, tree.open):
            with pytest.raises(DataError, match=r"x\.zip: a\.bin cannot be read"):
                read("a.bin")
        assert tree.open("b.bin").read() == data
