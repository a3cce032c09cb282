"""Zip and tar archives."""

import gzip
import struct
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import IO, BinaryIO

from data_prep.archives.base import (
    MAX_MEMBER_BYTES,
    Tree,
    check_names,
    check_size,
    file_sha256,
    readable,
    visible,
)
from data_prep.archives.window import window
from data_prep.errors import DataError

# Images hardly shrink under gzip; its format allows a thousandfold, which only bombs come near.
_MAX_RATIO = 100

_ENCRYPTED = 0x1


class ZipTree(Tree):
    """A zip archive."""

    kind = "zip"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with readable(path):
            self._zip = zipfile.ZipFile(path)
        try:
            check_names(path, self._zip.namelist())
        except BaseException:
            self._zip.close()
            raise

    def names(self) -> list[str]:
        """Return the names of all files in the archive."""
        return visible({name for name in self._zip.namelist() if not name.endswith("/")})

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""
        with readable(self.path, name):
            check_size(self._zip.getinfo(name).file_size, self.path, name)
            return self._zip.read(name)  # never more than the declared size, and its CRC is checked

    def open(self, name: str) -> BinaryIO:
        """Open a member: in place where it is stored as it is, else unpacked to a nameless temporary file."""
        with readable(self.path, name):
            file = self.path.open("rb")
            self._opened.append(file)
            member = open_zip_member(self._zip, file, name)
        self._opened.append(member)
        return member

    def head(self, name: str, size: int) -> bytes:
        """Return the first bytes of a member."""
        with readable(self.path, name), self._zip.open(name) as file:
            return file.read(size)

    def sha256(self) -> str:
        """Return the checksum of the archive."""
        return file_sha256(self.path)

    def close(self) -> None:
        """Close the archive."""
        super().close()
        self._zip.close()


class TarTree(Tree):
    """A tar archive, plain or under gzip."""

    kind = "tar"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with readable(path):
            self._file = _ungzipped(path)
            try:
                self._tar = tarfile.TarFile(fileobj=self._file)
                self._members = {member.name: member for member in self._tar if member.isreg()}
                check_names(path, self._members)
            except BaseException:
                self._file.close()
                raise

    def names(self) -> list[str]:
        """Return the names of all regular files in the archive."""
        return visible(self._members)

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""
        with readable(self.path, name):
            member = self._members[name]
            check_size(member.size, self.path, name)
            file = self._tar.extractfile(member)
            data = file.read() if file else b""
            if len(data) != member.size:
                raise EOFError("it is cut short")
            return data

    def open(self, name: str) -> BinaryIO:
        """Open a member in place."""
        with readable(self.path, name):
            file = self._tar.extractfile(self._members[name])
            if file is None:
                raise EOFError("it is no regular file")
        opened: BinaryIO = file  # type: ignore[assignment]  # a BufferedReader, says its documentation
        self._opened.append(opened)
        return opened

    def head(self, name: str, size: int) -> bytes:
        """Return the first bytes of a member."""
        with readable(self.path, name):
            file = self._tar.extractfile(self._members[name])
            return file.read(size) if file else b""

    def sha256(self) -> str:
        """Return the checksum of the archive."""
        return file_sha256(self.path)

    def close(self) -> None:
        """Close the archive."""
        super().close()
        self._tar.close()
        self._file.close()


def open_zip_member(archive: zipfile.ZipFile, file: BinaryIO, name: str) -> BinaryIO:
    """Open a member for reading at any place; `file` is that of the archive.

    A stored member is a window on the file, any other is first unpacked to a temporary file without a name.
    Raises what `readable` turns into a DataError.
    """
    info = archive.getinfo(name)
    if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & _ENCRYPTED:
        # Before its bytes a member has a header of its own, whose name and extra field may have other lengths
        # than in the archive's directory.
        file.seek(info.header_offset)
        header = file.read(30)
        if not header.startswith(b"PK\3\4") or len(header) < 30:
            raise zipfile.BadZipFile("a member is not where the directory says")
        start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
        return window(file, start, info.file_size)
    with archive.open(name) as packed:
        return _unpacked(packed, info.compress_size, f"{archive.filename or 'The archive'}: {name}")


def _ungzipped(path: Path) -> BinaryIO:
    """Open a file for reading at any place; gzip is first undone into a temporary file without a name."""
    file: BinaryIO = path.open("rb")
    if file.read(2) != b"\x1f\x8b":
        file.seek(0)
        return file
    with file:
        file.seek(0)
        with gzip.open(file) as packed:
            return _unpacked(packed, path.stat().st_size, f"{path}")


def _unpacked(packed: IO[bytes] | gzip.GzipFile, packed_size: int, where: str) -> BinaryIO:
    """Unpack to a temporary file without a name; DataError where it grows too much."""
    limit = _MAX_RATIO * packed_size + MAX_MEMBER_BYTES
    plain = tempfile.TemporaryFile()  # noqa: SIM115  closed by the tree that reads it
    try:
        while block := packed.read(1 << 20):
            plain.write(block)
            if plain.tell() > limit:
                raise DataError(
                    f"{where} unpacks to over {_MAX_RATIO} times its size; it is not what it says."
                )
    except BaseException:
        plain.close()
        raise
    plain.seek(0)
    return plain
