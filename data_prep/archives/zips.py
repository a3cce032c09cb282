"""Zip archives."""

import stat
import struct
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from data_prep.archives.base import (
    Tree,
    check_names,
    check_size,
    normalized,
    readable,
    visible,
    where,
)
from data_prep.archives.unpacking import Unpacked
from data_prep.archives.window import window
from data_prep.errors import DataError

# The modules of all others unpack as much as they like before they are asked to stop.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHER_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}

_ENCRYPTED, _UTF8 = 0x1, 0x800  # flags of a member
_UNICODE_NAME = 0x7075  # the extra field of Info-ZIP


class ZipTree(Tree):
    """A zip archive, in a file that may be open already and is then not closed here.

    What its directory says of a member is checked against the archive before it is believed.
    """

    kind = "zip"

    def __init__(self, path: Path, file: BinaryIO | None = None) -> None:
        super().__init__(path)
        with readable(path):
            self._file = file or path.open("rb")
            try:
                self._size = self._file.seek(0, 2)
                self._zip = zipfile.ZipFile(self._file)
                self._members = _members(self._zip)
                check_names(path, [*self._zip.namelist(), *self._members])
            except BaseException:
                if file is None:
                    self._file.close()
                raise
        if file is None:
            self.keep(self._file)
        self._sound: set[str] = set()  # members whose checksum was compared
        self._unpacked = Unpacked(self._size)
        self.keep(self._unpacked)

    def _list(self) -> list[str]:
        return visible(self._members)

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""
        info = self._checked(name)
        check_size(info.file_size, self.path, name)
        return self._start(name, info.file_size)  # all of it, whereupon zipfile compares the checksum

    def open(self, name: str) -> BinaryIO:
        """Open a member: in place where it is stored as it is, else unpacked to a temporary file."""
        info = self._checked(name)
        with readable(self.path, name):
            if info.compress_type == zipfile.ZIP_STORED:
                member = self._window(info)
                if name not in self._sound:
                    _check_sum(member, info.CRC)
                    self._sound.add(name)
                return member
            with self._zip.open(info) as packed:
                return self._unpacked.add(packed, where(self.path, name))

    def head(self, name: str, size: int) -> bytes:
        """Return the first bytes of a member."""
        return self._start(name, min(size, self._checked(name).file_size))

    def close(self) -> None:
        """Close the archive."""
        self._zip.close()
        super().close()

    def _checked(self, name: str) -> zipfile.ZipInfo:
        """Return what the directory says of a member, if that is possible."""
        info = self._members[name]
        if info.compress_type not in _METHODS:
            method = _OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")
            raise DataError(
                f"{where(self.path, name)} is compressed with {method}, which is not supported; zip it "
                "again with Deflate, the usual method."
            )
        if info.flag_bits & _ENCRYPTED:
            raise DataError(f"{where(self.path, name)} is encrypted; zip it again without a password.")
        stored = info.compress_type == zipfile.ZIP_STORED
        if info.header_offset + info.compress_size > self._size or (
            stored and info.compress_size != info.file_size
        ):
            raise DataError(f"{where(self.path, name)} has an impossible size; get a fresh copy.")
        return info

    def _start(self, name: str, size: int) -> bytes:
        with readable(self.path, name), self._zip.open(self._members[name]) as file:
            data = file.read(size)
            if len(data) < size:
                raise EOFError("it is cut short")
            return data

    def _window(self, info: zipfile.ZipInfo) -> BinaryIO:
        # A member's bytes follow a header of its own, whose name and extra field may have other lengths
        # than in the archive's directory.
        self._file.seek(info.header_offset)
        header = self._file.read(30)
        if not header.startswith(b"PK\3\4") or len(header) < 30:
            raise zipfile.BadZipFile("a member is not where the archive's directory says")
        start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
        if start + info.file_size > self._size:
            raise EOFError("it is cut short")
        return window(self._file, start, info.file_size)


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by name; links are passed over."""
    infos = [info for info in archive.infolist() if not stat.S_ISLNK(info.external_attr >> 16)]
    names = [_name(info) for info in infos]
    if not any("/" in name for name in names):  # some programs for Windows write its separator
        names = [name.replace("\\", "/") for name in names]
    return {normalized(name): info for name, info in zip(names, infos, strict=True) if not name.endswith("/")}


def _name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member as whoever packed it saw it.

    Without the mark for UTF-8 a name is in a code page that the archive does not tell. Many programs leave
    the mark out though they write UTF-8, or write that elsewhere beside the name.
    """
    if info.flag_bits & _UTF8:
        return info.filename
    raw = info.orig_filename.encode("cp437")
    for encoded in (raw, _unicode_name(info.extra, raw)):
        with suppress(UnicodeDecodeError):
            return encoded.decode().partition("\0")[0]
    return info.filename


def _unicode_name(extra: bytes, name: bytes) -> bytes:
    """Return the name in UTF-8 that an extra field has for this very name, or else the name."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_NAME and field[:5] == b"\1" + zlib.crc32(name).to_bytes(4, "little"):
            return field[5:]
    return name


def _check_sum(member: BinaryIO, expected: int) -> None:
    found = 0
    while block := member.read(1 << 20):
        found = zlib.crc32(block, found)
    if found != expected:
        raise zipfile.BadZipFile("its checksum is wrong")
    member.seek(0)
